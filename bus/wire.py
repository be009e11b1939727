"""Commands on their way to one server, its replies, its errors made ours."""

import asyncio
import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, cast

import hiredis
from redis import exceptions as redis_errors

from schemas.errors import LeaseLost, Unavailable

_LARGE_BYTES: Final = 2_000

Word = bytes | str | int | float

#: Answers of a server that is coming up, going away, full or busy: worth waiting for. Redis 6.2 quotes the answer to a
#: command inside a script in the middle of the script's own ("… @user_script: 43: -OOM command not allowed …").
_TRANSIENT: Final = re.compile(
    r"(?:^|-)(?:LOADING|BUSY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|READONLY|MISCONF|OOM|NOREPLICAS|UNBLOCKED)\b"
)
#: Of those, the ones that the library has recognised, and whose first word it has taken away.
_TRANSIENT_TYPES: Final = (
    redis_errors.ReadOnlyError,
    redis_errors.OutOfMemoryError,
    redis_errors.TryAgainError,
    redis_errors.ClusterDownError,
)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Redis's errors become Unavailable (wait and retry) or LeaseLost; anything else is a bug and stays."""
    try:
        yield
    except (redis_errors.ConnectionError, redis_errors.TimeoutError, OSError) as error:
        raise Unavailable(f"Redis does not answer: {error}") from error
    except redis_errors.ResponseError as error:
        text = str(error)
        if text.startswith("FENCED"):
            raise LeaseLost(text.removeprefix("FENCED ")) from None
        if isinstance(error, _TRANSIENT_TYPES) or _TRANSIENT.search(text):
            raise Unavailable(f"Redis is not ready: {text}") from error
        if "NOGROUP" in text:
            raise Unavailable("the consumer group is gone (was Redis flushed?): start over") from None
        raise


async def exchange(pool: Any, commands: Sequence[Sequence[Word]]) -> list[Any]:
    """Send commands in one packet, which the server runs in one go; their replies as they came over the wire, errors
    among them.

    The short way past the library's own: that one encodes word by word in Python, which takes longer than all
    else in a commit of a hundred entries.
    """
    packed = [chunk for command in commands for chunk in _packed(command)]
    replies: list[Any] = []
    cancellations = _cancellations()
    with translated():
        connection = await pool.get_connection()
        try:
            await connection.send_packed_command(packed)
            if _cancellations() > cancellations:  # swallowed on the way here
                raise asyncio.CancelledError
            for _ in commands:
                try:
                    replies.append(await connection.read_response())
                except redis_errors.ResponseError as error:
                    replies.append(error)
        except BaseException:
            await connection.disconnect(nowait=True)  # replies to these commands may still be on their way
            raise
        finally:
            await pool.release(connection)
    return replies


def checked(replies: list[Any]) -> list[Any]:
    """The replies; the first error among them is raised."""
    with translated():
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
    return replies


def _packed(words: Sequence[Word]) -> list[bytes]:
    """A command as it goes over the wire. hiredis does small words well and copies large ones again and again."""
    large = [at for at, word in enumerate(words) if type(word) is bytes and len(word) > _LARGE_BYTES]
    if not large:
        return [_packed_small(words)]
    chunks = [b"*%d\r\n" % len(words)]
    done = 0
    for at in large:
        word = cast(bytes, words[at])
        chunks += (_without_count(_packed_small(words[done:at])), b"$%d\r\n" % len(word), word, b"\r\n")
        done = at + 1
    chunks.append(_without_count(_packed_small(words[done:])))
    return chunks


def _packed_small(words: Sequence[Word]) -> bytes:
    return cast(bytes, hiredis.pack_command(cast(Any, tuple(words))))


def _without_count(packed: bytes) -> bytes:
    return packed[packed.index(b"\n") + 1 :]


def pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """Names and values, which Redis sends in turn."""
    each: Iterator[bytes] = iter(flat)
    return dict(zip(each, each, strict=True))


def _cancellations() -> int:
    """How often this task was asked to end. Before Python 3.12 `asyncio.wait_for`, with which the library connects and
    sends, could swallow that; but what is cancelled must not go on to wait for entries, and take them with it."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0
