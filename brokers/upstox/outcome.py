"""What a call's end means: which of a write's four endings it is, or why a read has no data. Pure.

A write is `Refused` only where the venue says so, `NotSent` only where nothing was done for certain. Everything else,
every 5xx among it (an order may have been taken before the answer went wrong), is `Lost`.
"""

from typing import Any, Final

from brokers.upstox.rest import Blocked, NeedsLogin, Throttled, complaint
from brokers.upstox.sdk import Answer, Failure
from brokers.venue import Lost, NotSent, Refused
from schemas.errors import Unavailable

_AGAIN_S: Final = 1.0
_THROTTLED_S: Final = 2.0  # how long a suspension lasts is not said anywhere
_BLOCKED_S: Final = 30.0  # at the edge network: who asks often is blocked for longer
_FORBIDDEN_S: Final = 5.0
_CLOSED_S: Final = 60.0  # outside the hours of the order service

#: "Something went wrong": whatever status it comes with, it is no word about the order.
_SERVER_ERROR: Final = "UDAPI100500"

#: A request for the orders of a tag, or the like, that there are none of.
NONE_THERE: Final = frozenset({"UDAPI1109", "UDAPI100010"})


class NoLogin(NotSent, NeedsLogin):
    """A write that did not leave, or that nobody looked at: the access token is missing or dead."""


class Denied(Unavailable):
    """The venue understood a question and does not answer it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{code or status}: {message}")
        self.status = status
        self.code = code


def of_write(end: Answer | Failure) -> Any:
    """The `data` of a write that was taken. Raises one of its three other endings."""
    if isinstance(end, Failure):
        if end.left:
            raise Lost(f"the request left, and no answer came: {end.reason}")
        raise NotSent(f"the venue cannot be reached: {end.reason}", again_s=_AGAIN_S)
    code, message = complaint(end.body)
    if end.status == 200 and _succeeded(end.body):
        return end.body.get("data")
    if code == _SERVER_ERROR or (end.status == 200 and not (code or message)):
        raise Lost(f"the answer does not say what happened ({end.status} {code})".replace(" )", ")"))
    if end.status == 200 or _is_refusal(end.status):
        raise Refused(code, message or f"the venue answers {end.status} and gives no reason", end.status)
    match end.status:
        case 401:
            raise NoLogin(f"the venue refuses the access token ({code or 401})", again_s=_AGAIN_S)
        case 403:
            why = f"403 {code}: {message}" if code else "403 without a reason: blocked at the edge"
            raise NotSent(why, again_s=end.retry_after_s or (_FORBIDDEN_S if code else _BLOCKED_S))
        case 423:
            raise NotSent(f"outside the venue's hours ({code or 423})", again_s=end.retry_after_s or _CLOSED_S)
        case 429:
            raise NotSent("429: too many calls", again_s=end.retry_after_s or _THROTTLED_S)
    raise Lost(f"the venue answers {end.status} {code} {message}".rstrip())


def _is_refusal(status: int) -> bool:
    """403 is about us, not about the order: an address that is not registered is so until the line is back, or somebody
    has registered it, and an exit has to be tried until then. 408 is an answer to half a request."""
    return 400 <= status < 500 and status not in (401, 403, 408, 423, 429)


def of_read(end: Answer | Failure) -> Any:
    """The `data` of an answer. Raises Unavailable or one of its kinds."""
    if isinstance(end, Failure):
        raise Unavailable(f"the venue does not answer: {end.reason}")
    if end.status == 200 and _succeeded(end.body):
        return end.body.get("data")
    code, message = complaint(end.body)
    match end.status:
        case 401:
            raise NeedsLogin(f"the venue refuses the access token ({code or 401})")
        case 403:
            raise Blocked(f"403 {code}: {message}" if code else "403 without a JSON body: blocked at the edge")
        case 429:
            raise Throttled("429: too many calls")
    raise Denied(end.status, code, message or "an answer that is not in the venue's form")


def _succeeded(body: Any) -> bool:
    return isinstance(body, dict) and body.get("status") == "success"
