"""Errors as RFC 9457 problem details: what is wrong, in one sentence, and with which field."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import orjson
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from schemas.errors import Misconfigured, Rejected, Unavailable, WrongField

log = structlog.get_logger("gateway")

MEDIA_TYPE: Final = "application/problem+json"
_RETRY_S: Final = 2


class FieldError(BaseModel):
    """One thing that is wrong with a request."""

    field: str = Field(description="Where: `query.limit`, `body.instruments.0`, `header.last-event-id`")
    message: str


class ProblemDetails(BaseModel):
    """RFC 9457. `type` is stable and made for programs, `detail` for people."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "urn:teji:problem:unknown-instrument",
                "title": "Not Found",
                "status": 404,
                "detail": "there is no instrument NSE_EQ|NOWHERE",
                "instance": "/api/v1/candles",
                "errors": [{"field": "query.instrument", "message": "there is no instrument NSE_EQ|NOWHERE"}],
            }
        }
    )

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: list[FieldError] = Field(default_factory=list)
    rule: str | None = Field(
        default=None, description="Only of `refused`: which of our checks, or the venue's code", examples=["position"]
    )


class Problem(Exception):
    """Raised where a request cannot be answered. Becomes the response."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        kind: str = "",
        errors: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        rule: str = "",
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.kind = kind
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.rule = rule

    @classmethod
    def field(cls, status: int, field: str, message: str, *, kind: str = "invalid-request") -> "Problem":
        """A request that is wrong in one field."""
        return cls(status, message, kind=kind, errors=[(field, message)])

    def response(self, instance: str) -> Response:
        details: dict[str, Any] = {
            "type": f"urn:teji:problem:{self.kind}" if self.kind else "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
            "errors": [{"field": field, "message": message} for field, message in self.errors],
        }
        if self.rule:
            details["rule"] = self.rule
        return Response(orjson.dumps(details), self.status, self.headers, MEDIA_TYPE)


def unavailable(error: Unavailable) -> Problem:
    return Problem(503, str(error), kind="unavailable", headers={"Retry-After": str(_RETRY_S)})


def of(error: Exception) -> Problem:
    """The problem that an exception is to a caller."""
    match error:
        case Problem():
            return error
        case Unavailable():
            return unavailable(error)
        case Rejected() | Misconfigured():
            return Problem(422, str(error), kind="rejected")
        case RequestValidationError():
            errors = [_complaint(item) for item in error.errors()]
            detail = "; ".join(f"{field}: {message}" for field, message in errors[:5])
            return Problem(422, detail, kind="invalid-request", errors=errors)
        case HTTPException():
            return Problem(error.status_code, str(error.detail), headers=error.headers)
    return Problem(500, "an error of ours; the log tells more", kind="internal")


def _complaint(item: Mapping[str, Any]) -> tuple[str, str]:
    """Which field, and what is wrong with it. A model whose fields do not go together says which of them it means."""
    place = list(item["loc"])
    raised = item.get("ctx", {}).get("error")
    if isinstance(raised, WrongField):
        place.append(raised.field)
    return ".".join(map(str, place)), str(item["msg"]).removeprefix("Value error, ")


async def answer(request: Request, error: Exception) -> Response:
    problem = _not_json(request) if _is_about_the_body(error) else None
    problem = problem or of(error)
    if problem.status == 500:
        log.error("request failed", path=request.url.path, exc_info=error)
    return problem.response(request.url.path)


def _is_about_the_body(error: Exception) -> bool:
    return isinstance(error, RequestValidationError) and any(item["loc"] == ("body",) for item in error.errors())


def _not_json(request: Request) -> Problem | None:
    """A body under another name is not looked at: `curl -d` sends it as a form's."""
    kind = request.headers.get("content-type", "")
    if "json" in kind:
        return None
    return Problem.field(
        415, "header.content-type", f"the body is {kind or 'of no type'}: send it as application/json", kind="not-json"
    )


def install(app: FastAPI) -> None:
    """Every error of every route leaves as a problem."""
    handler: Callable[[Request, Exception], Awaitable[Response]] = answer
    for kind in (Problem, Unavailable, Rejected, Misconfigured, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, handler)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problem responses of a route, for OpenAPI."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}},
        }
        for status in statuses
    }
