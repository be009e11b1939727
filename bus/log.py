"""Structured logs to standard error: coloured lines on a terminal, JSON lines otherwise. No secret passes."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Final

import structlog

from bus.settings import LogFormat

#: Names whose values are never logged, and shapes that are secrets wherever they stand (a JWT, a bearer header).
_SECRET_NAME: Final = re.compile(r"token|secret|password|authorization|api_key|cookie|^code$", re.IGNORECASE)
_SECRET_TEXT: Final = re.compile(
    r"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+|(?<=Bearer )\S+|(?<=[?&]code=)[^&\s]+|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
)


def masked(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if _SECRET_NAME.search(name) and value:
            event[name] = "***"
        elif isinstance(value, str):
            event[name] = _SECRET_TEXT.sub("***", value)
    return event


def configure(worker: str, form: LogFormat, level: str) -> None:
    human = form is LogFormat.HUMAN or (form is LogFormat.AUTO and sys.stderr.isatty())
    stamp = structlog.processors.TimeStamper(fmt="%H:%M:%S.%f" if human else "iso", utc=not human)
    shared: list[Any] = [structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, stamp]
    tail: list[Any] = (
        [masked, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty() or form is LogFormat.HUMAN, pad_event_to=0)]
        if human
        else [structlog.processors.format_exc_info, masked, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*shared, *tail],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(worker=worker)
    bridge = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *tail]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(bridge)
    logging.basicConfig(
        handlers=[handler], level=max(logging.WARNING, logging.getLevelNamesMapping()[level]), force=True
    )
