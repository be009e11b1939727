"""Ask a worker for something: one entry in `commands`, and the `reply` event that answers it.

With an idempotency key the command is written exactly once, whatever happens in between: the request is written down
first, under the key, with the id that its command will have; then the command is written by a commit that happens only
once per key. Whoever comes with the same key finishes what was left and waits for the same reply.
"""

import asyncio
import hashlib
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import orjson
from pydantic import BaseModel

from bus import clock
from bus.connection import translated
from bus.inbox import Output
from gateway.context import Gateway
from gateway.frames import parsed
from gateway.positions import of_entry, parse, text_of
from gateway.problems import Problem
from schemas import streams
from schemas.commands import Command, OrderCommand
from schemas.errors import Unavailable
from schemas.events import EventKind

REPLY_S: Final = 5.0
_REMEMBERED_S: Final = 86_400
_SCANNED_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Answer:
    command: str
    replies: list[dict[str, Any]]  # events of kind `reply`: one from each shard, or the order worker's one


@dataclass(frozen=True, slots=True)
class NoAnswerYet:
    command: str
    look: str


@dataclass(frozen=True, slots=True)
class _Request:
    """What was asked under an idempotency key, as Redis remembers it."""

    command: str
    fingerprint: str
    since: str  # where `events` stood before the command


async def ask(
    here: Gateway, command: Command | OrderCommand, by: str, key: str | None, *, answers: int | None = None
) -> Answer | NoAnswerYet:
    """Write the command and wait a while for so many replies: of every shard where it is not said.

    Raises Unavailable while Redis is away.
    """
    body = command.model_dump_json()
    fingerprint = hashlib.sha256(body.encode()).hexdigest()
    command_id = _command_id(key, fingerprint, clock.now_ms())
    request = _Request(command_id, fingerprint, text_of(await here.tails["events"].ends()))
    # In the slot of the commands, so that the command and the note that it was written are one commit on a cluster too.
    name = None if key is None else f"idempotency:{{{streams.COMMANDS}}}:{hashlib.sha256(key.encode()).hexdigest()}"
    if name is not None:
        request = await _remembered(here, name, request)
    fields = {"id": request.command, "kind": command.kind, "by": by, "data": body}
    replies: dict[int, dict[str, Any]] = {}
    wanted = here.settings.teji_shards if answers is None else answers
    with _listening(here, request.command, replies, wanted) as complete:
        await _send(here, fields, None if name is None else f"{name}:{request.command}")
        if name is not None:
            await _earlier(here, request)
        try:
            async with asyncio.timeout(REPLY_S):
                await complete.wait()
        except TimeoutError:
            return NoAnswerYet(request.command, f"/api/v1/stream/events?last_event_id={request.since}")
    return Answer(request.command, [replies[shard] for shard in sorted(replies)])


def _command_id(key: str | None, fingerprint: str, now_ms: int) -> str:
    """Under a key the same all day: what Redis has lost of it, the order worker's journal still knows."""
    if key is None:
        return uuid.uuid4().hex
    return hashlib.sha256(f"{key}\n{fingerprint}\n{now_ms // 86_400_000}".encode()).hexdigest()[:32]


async def _send(here: Gateway, fields: dict[str, str], once: str | None) -> None:
    """Append the command; under a name only the first time."""
    sequence = None if once is None else (once, 1)
    await here.writer.write([Output(streams.COMMANDS, fields)], now_s=clock.monotonic_s(), sequence=sequence)
    if once is not None:
        with translated():
            await here.bus.redis.expire(once, _REMEMBERED_S)


async def _remembered(here: Gateway, name: str, request: _Request) -> _Request:
    """The request that the key stands for: this one, or the one that came first."""
    value = orjson.dumps(request)
    with translated():
        if await here.bus.redis.set(name, value, nx=True, ex=_REMEMBERED_S):
            return request
        held = await here.bus.redis.get(name)
    if held is None:
        raise Unavailable("the idempotency key has just expired")
    first = _Request(**orjson.loads(held))
    if first.fingerprint != request.fingerprint:
        raise _reused()
    return first


async def once(
    here: Gateway, name: str, asked: BaseModel, key: str | None, act: Callable[[], Awaitable[bytes]]
) -> bytes:
    """The answer of `act`; under a key the answer that it gave the first time.

    For what acts on Redis itself and is harmless when a crash in between has it done twice.
    """
    if key is None:
        return await act()
    place = f"idempotency:{{{streams.COMMANDS}}}:{hashlib.sha256(f'{name}:{key}'.encode()).hexdigest()}"
    fingerprint = hashlib.sha256(asked.model_dump_json().encode()).hexdigest().encode()
    with translated():
        held = await here.bus.redis.get(place)
    if held is not None:
        before, _, answer = held.partition(b" ")
        if before != fingerprint:
            raise _reused()
        return bytes(answer)
    answer = await act()
    with translated():
        await here.bus.redis.set(place, fingerprint + b" " + answer, ex=_REMEMBERED_S)
    return answer


def _reused() -> Problem:
    return Problem.field(
        422,
        "header.idempotency-key",
        "this key was used for another request: a new request needs a new key",
        kind="idempotency-key-reused",
    )


@contextmanager
def _listening(
    here: Gateway, command: str, replies: dict[int, dict[str, Any]], answers: int
) -> Iterator[asyncio.Event]:
    """Collect the replies to a command, as the events feed reads them, until all have come."""
    complete = asyncio.Event()

    def answered(event: dict[str, Any]) -> None:
        replies.setdefault(int(event["data"].get("shard", 0)), event)
        if len(replies) >= answers:
            complete.set()

    watchers = here.events.replies.setdefault(command, [])
    watchers.append(answered)
    try:
        yield complete
    finally:
        watchers.remove(answered)
        if not watchers:
            here.events.replies.pop(command, None)


async def _earlier(here: Gateway, request: _Request) -> None:
    """The replies that came before this request did."""
    (at,) = parse(request.since, 1)
    full = True
    while full:
        with translated():
            page = await here.bus.redis.xrange(streams.EVENTS, min=f"({at.entry}", count=_SCANNED_AT_ONCE)
        for entry_id, fields in page:
            at = of_entry(entry_id)
            event = reply_to(request.command, fields)
            if event is not None:
                for answered in list(here.events.replies.get(request.command, ())):
                    answered(event)
        full = len(page) == _SCANNED_AT_ONCE


def reply_to(command: str, fields: dict[bytes, bytes]) -> dict[str, Any] | None:
    if fields.get(b"kind") != EventKind.REPLY.encode() or command.encode() not in fields.get(b"data", b""):
        return None
    event = parsed(fields[b"data"])
    data = event.get("data")
    return event if isinstance(data, dict) and data.get("command") == command else None
