"""Damaged frames: the decoder says the same as the generated class, and reads nothing beyond a frame's last byte.

`TEJI_FUZZ=10000000` for a long run.
"""

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.frames import Mode, frames

ROOT = Path(__file__).resolve().parents[2]
MUTANTS = int(os.environ.get("TEJI_FUZZ", "30000"))
SEED = int(os.environ.get("TEJI_FUZZ_SEED", "20260309"))

Agrees = Callable[..., bool]
Scribbled = Callable[[random.Random], bytes]

#: Bytes that mean something to the wire format: small tags and lengths, the edges of a varint, ends of groups.
TELLING = bytes([0, 1, 2, 5, 8, 0x0A, 0x12, 0x1A, 0x1B, 0x1C, 0x22, 0x2A, 0x7F, 0x80, 0x81, 0xC0, 0xFF])


def mutated(frame: bytes, others: list[bytes], rng: random.Random) -> bytes:
    out = bytearray(frame)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(6):
            case 0 if at < len(out):
                out[at] = rng.choice(TELLING)
            case 1 if at < len(out):
                out[at] ^= 1 << rng.randrange(8)
            case 2:
                del out[at : at + rng.choice((1, 1, 4))]
            case 3:
                out[at:at] = bytes([rng.choice(TELLING)])
            case 4:
                other = rng.choice(others)
                start = rng.randrange(len(other))
                out[at:at] = other[start : start + rng.randrange(40)]
            case _:
                del out[at:]
    return bytes(out)


def sample(rng: random.Random, scribbled: Scribbled) -> list[bytes]:
    made = [frame for mode in Mode for n in (1, 2, 3) for frame in frames(mode, 4, n, seed=rng.randrange(1000))]
    return made + [frame for frame in (scribbled(rng) for _ in range(150)) if frame]


def test_a_mutant_means_the_same_to_the_generated_class_or_to_neither(
    agrees: Agrees, scribbled_frame: Scribbled
) -> None:
    rng = random.Random(SEED)
    frames_ = sample(rng, scribbled_frame)
    taken = 0
    for number in range(MUTANTS):
        if number % 100_000 == 99_999:
            frames_ = sample(rng, scribbled_frame)
        taken += agrees(mutated(rng.choice(frames_), frames_, rng))

    assert 0.05 * MUTANTS < taken < 0.95 * MUTANTS, "mutants that are all taken or all refused test little"


@pytest.mark.parametrize("mode", Mode)
def test_a_frame_cut_anywhere_means_the_same_to_the_generated_class(mode: Mode, agrees: Agrees) -> None:
    (frame,) = frames(mode, 1, 2)
    taken = [size for size in range(len(frame) + 1) if agrees(frame[:size])]

    assert taken[0] == 0
    assert taken[-1] == len(frame)
    assert len(taken) < 8, "a cut is a whole frame only between two fields of the outermost message"


def test_noise_means_the_same_to_the_generated_class(agrees: Agrees) -> None:
    rng = random.Random(SEED)
    for _ in range(MUTANTS // 3):
        agrees(bytes(rng.choices(TELLING, k=rng.randrange(40))))


GUARDED = """
import ctypes, mmap, random, sys
import numpy as np
from bench.frames import Mode, frames
from proto import decode
from schemas.ticks import LEVEL, TICK

PAGE = mmap.PAGESIZE
area = mmap.mmap(-1, 2 * PAGE)
end = ctypes.addressof(ctypes.c_char.from_buffer(area)) + PAGE
libc = ctypes.CDLL(None, use_errno=True)
assert libc.mprotect(ctypes.c_void_p(end), PAGE, 0) == 0  # whoever reads the second page dies

buffer = decode.TickBuffer(64, 256)
arrays = np.zeros(64, TICK), np.zeros(64, decode._KEY), np.zeros(256, LEVEL)

def parse(frame):
    area[PAGE - len(frame) : PAGE] = frame
    cursor = buffer._cursor.copy()
    return decode._frame(end - len(frame), end, *arrays, cursor)

rng = random.Random(int(sys.argv[1]))
whole = [frame for mode in Mode for frame in frames(mode, 2, 2)]
refused = 0
for frame in whole:
    assert parse(frame) == end
    for size in range(len(frame)):
        refused += parse(frame[:size]) < 0
        grown = bytearray(frame[:size])
        for _ in range(3):
            if grown:
                grown[rng.randrange(size)] |= rng.choice((0x80, 0x7F, 0xFF))
        parse(bytes(grown))
if len(sys.argv) > 2:
    ctypes.string_at(end, 1)
print(refused)
"""


def guarded(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", GUARDED, str(SEED), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="page protection by mprotect")
def test_nothing_is_read_beyond_the_last_byte_of_a_frame() -> None:
    run = guarded()

    assert (run.returncode, run.stderr) == (0, "")
    assert int(run.stdout) > 1000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="page protection by mprotect")
def test_a_read_beyond_the_last_byte_would_be_noticed() -> None:
    assert guarded("overrun").returncode < 0
