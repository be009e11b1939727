"""Structured logs to standard error: coloured lines on a terminal, JSON lines otherwise. No secret passes.

Three nets, one behind the other: values under a name that says secret (`masked`, at any depth), text that has the shape
of one (`masked_text`: a JWT, a bearer header, a password in an address, `code=` in a query), and the secrets of the
settings themselves, letter by letter. The last two are laid over the finished line, so that tracebacks are covered.
"""

import contextlib
import logging
import re
import sys
import threading
import traceback
from collections.abc import Iterable, Mapping, MutableMapping
from types import TracebackType
from typing import Any, Final

import structlog

from bus.settings import LogFormat

_MASK: Final = "***"
_NAMES: Final = r"token|secret|password|passwd|authorization|api_?key|cookie"
_SECRET_NAME: Final = re.compile(rf"{_NAMES}|^code$|^dsn$", re.IGNORECASE)
_SHAPE: Final = re.compile(
    r"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+"  # a JWT
    r"|(?<=://)[^/\s:@'\"]*:[^/\s'\"]+(?=@)"  # user and password in an address
    r"|(?<=bearer )[^\s'\"\\,]+"
    r"|(?<=authorization: )[^\n'\"\\]+"
    r"|(?<=cookie: )[^\n'\"\\]+",
    re.IGNORECASE,
)
#: name=value in a query or a DSN, "name": "value" in JSON or in what Python prints of a dictionary. No quote that ends
#: a value is taken along, however it is escaped: a line of JSON stays one.
_PAIR: Final = re.compile(
    rf"((?:[\w-]*(?:{_NAMES})[\w-]*(?:\\?['\"]\s?:\s?(?=b?\\?['\"])|=\s?)|\bcode=))"
    r"(?:(b?\\?['\"])(?:[^'\"\\]|\\\\)+|[^\s&'\"\\,;)}\]]+)",
    re.IGNORECASE,
)
_LONG: Final = 6  # a shorter secret is not looked for letter by letter: it would black out half of what is said
_DEEP: Final = 6

_known: set[str] = set()  # the secrets of this process's settings


def masked(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """An event without the values of what is named like a secret, and without text that looks like one."""
    for name, value in event.items():
        event[name] = _masked_value(name, value, _DEEP)
    return event


def _masked_value(name: object, value: Any, deep: int) -> Any:
    if isinstance(name, str) and _SECRET_NAME.search(name) and value:
        return _MASK
    if isinstance(value, str):
        return masked_text(value)
    if isinstance(value, Mapping):
        return {key: _masked_value(key, one, deep - 1) for key, one in value.items()} if deep else _MASK
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked_value("", one, deep - 1) for one in value] if deep else _MASK
    return value


def masked_text(text: str) -> str:
    """Text without what looks like a secret, or is one of ours."""
    text = _PAIR.sub(rf"\1\2{_MASK}", _SHAPE.sub(_MASK, text))
    for secret in _known:
        text = text.replace(secret, _MASK)
    return text


def _masked_line(_: object, __: str, line: str) -> str:
    return masked_text(line)


def configure(worker: str, form: LogFormat, level: str, secrets: Iterable[str] = ()) -> None:
    """Set up the logs of this process, those of the libraries included, and what Python says of an error at its end."""
    _known.update(secret for secret in secrets if len(secret) >= _LONG)
    human = form is LogFormat.HUMAN or (form is LogFormat.AUTO and sys.stderr.isatty())
    stamp = structlog.processors.TimeStamper(fmt="%H:%M:%S.%f" if human else "iso", utc=not human)
    shared: list[Any] = [structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, stamp]
    tail = [masked, *_rendering(human, colours=sys.stderr.isatty() or form is LogFormat.HUMAN), _masked_line]
    structlog.configure(
        processors=[*shared, *tail],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=lambda *_: _Lines(),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(worker=worker)
    _bridge(shared, tail, max(logging.WARNING, logging.getLevelNamesMapping()[level]))
    sys.excepthook = _print_masked
    threading.excepthook = lambda failed: _print_masked(failed.exc_type, failed.exc_value, failed.exc_traceback)


class _Lines:
    """Writes to what standard error is at the time: it may have been replaced since.

    A line that cannot be written (the disk with the log is full) is no reason for a worker to end.
    """

    def msg(self, line: str) -> None:
        with contextlib.suppress(OSError):
            print(line, file=sys.stderr, flush=True)

    debug = info = warning = error = critical = exception = log = fatal = warn = failure = err = msg


class _Records(logging.Handler):
    """The same for the records of libraries."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)


def _rendering(human: bool, colours: bool) -> list[Any]:
    if human:
        plain = structlog.dev.plain_traceback
        return [structlog.dev.ConsoleRenderer(colors=colours, pad_event_to=0, exception_formatter=plain)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def _bridge(shared: list[Any], tail: list[Any], level: int) -> None:
    """What libraries log with the standard library goes the same way."""
    meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler = _Records()
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[meta, *tail]))
    logging.basicConfig(handlers=[handler], level=level, force=True)


def _print_masked(kind: type[BaseException], error: BaseException | None, where: TracebackType | None) -> None:
    print(masked_text("".join(traceback.format_exception(kind, error, where))), end="", file=sys.stderr, flush=True)
