"""OpenAPI for everything, the SSE paths included, and a page that lists the operations without any script."""

from html import escape
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from gateway.problems import MEDIA_TYPE, ProblemDetails
from schemas.bars import Bar
from schemas.chain import Chain
from schemas.events import Event
from schemas.gtt import Gtt
from schemas.intervals import Interval, LongBar
from schemas.orders import Fill, Order, Position, Refusal
from schemas.quotes import Quote
from schemas.signals import Signal

_DESCRIPTION: Final = """\
Live and stored market data, orders and positions over SSE and REST. Errors are RFC 9457 problem details
(`application/problem+json`).

Times are UTC epoch milliseconds; prices are rupees or index points. Calls that change something take an
`Idempotency-Key` header and are only taken from this machine and from this gateway's own pages, which are also the only
ones that are told of accounts. Calls about orders answer with what was decided: 200, or 409 with the rule and the
reason, or 202 with where to look.
"""

_SSE_DESCRIPTION: Final = """\
Server-sent events. The first connection gets a snapshot, then what is new. Each event's `id` is its place in the
stream: a reconnection with it (`Last-Event-ID`, which browsers send by themselves, or `last_event_id`) goes on exactly
there. What was trimmed meanwhile, or what a slow reader of ticks missed, is told by a `gap` event
`{stream, after, to, reason, ts}`. Quiet connections get a comment every few seconds.
"""

#: path -> (summary, filter, its description, event -> model or description)
_STREAMS: Final[dict[str, tuple[str, str, str, dict[str, Any]]]] = {
    "live": ("Ticks", "instruments", "Instrument keys, comma-separated", {"tick": Quote}),
    "candles": (
        "Bars and option chains",
        "instruments",
        "Instrument keys, comma-separated; a chain belongs to its underlying",
        {"candle": (Bar, LongBar), "chain": Chain},
    ),
    "orders": (
        "Orders, GTTs, fills, positions",
        "instruments",
        "Instrument keys, comma-separated",
        {"order": Order, "gtt": Gtt, "fill": Fill, "position": Position, "refused": Refusal},
    ),
    "signals": ("Signals of strategies", "strategies", "Names, comma-separated", {"signal": Signal}),
    "events": ("What happens in the system", "", "", {"event": Event}),
}

#: What the streams tell, whether or not a path answers it too.
_MODELS: Final = (
    ProblemDetails, Bar, LongBar, Chain, Quote, Event, Order, Gtt, Fill, Position, Refusal, Signal
)  # fmt: skip

_ID_EXAMPLE: Final = "1769744700123-0"


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, made once."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=_DESCRIPTION, routes=app.routes)
        schemas: dict[str, Any] = document.setdefault("components", {}).setdefault("schemas", {})
        for model in _MODELS:
            found = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= {name: schemas.get(name, value) for name, value in found.pop("$defs", {}).items()}
            schemas.setdefault(model.__name__, found)
        schemas.pop("HTTPValidationError", None)
        schemas.pop("ValidationError", None)
        for name, (summary, parameter, meaning, events) in _STREAMS.items():
            document["paths"][f"/api/v1/stream/{name}"] = {"get": _stream(name, summary, parameter, meaning, events)}
        app.openapi_schema = document
    return app.openapi_schema


def _stream(name: str, summary: str, parameter: str, meaning: str, events: dict[str, Any]) -> dict[str, Any]:
    told = "\n".join(f"- `{event}`: {_shape(what)}" for event, what in events.items())
    parameters = [
        _parameter(
            "last_event_id", "query", "The `id` to go on from, for clients that cannot set the header", _ID_EXAMPLE
        ),
        _parameter("Last-Event-ID", "header", "The `id` to go on from", _ID_EXAMPLE),
    ]
    if parameter:
        example = "NSE_INDEX|Nifty 50,NSE_FO|61755" if parameter == "instruments" else "ema_cross"
        parameters.insert(0, _parameter(parameter, "query", f"{meaning}; all when left out", example))
    if name == "candles":
        meaning = "How long a bar is; of more than a minute are only told those that have ended. Chains come with any"
        item = _parameter("interval", "query", meaning, Interval.M5.value)
        item["schema"] = {"type": "string", "enum": list(Interval), "default": Interval.M1.value}
        parameters.insert(1, item)
    first = next(iter(events))
    problem = {"content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}}
    return {
        "tags": ["streams"],
        "summary": summary,
        "operationId": f"stream_{name}",
        "description": f"{_SSE_DESCRIPTION}\nEvents:\n\n{told}",
        "parameters": parameters,
        "responses": {
            "200": {
                "description": "The stream, without end",
                "content": {
                    "text/event-stream": {
                        "schema": {"type": "string"},
                        "example": f"retry: 1000\n\nid: {_ID_EXAMPLE}\nevent: {first}\ndata: {{...}}\n\n",
                    }
                },
            },
            "400": {"description": "Bad Request: not a position", **problem},
            "403": {"description": "Forbidden: of accounts, and asked for under a foreign name", **problem},
            "404": {"description": "Not Found: unknown instrument", **problem},
            "422": {"description": "Unprocessable Content", **problem},
        },
    }


def _shape(what: Any) -> str:
    if isinstance(what, tuple):
        return " or ".join(map(_shape, what))
    return what if isinstance(what, str) else f"the schema `{what.__name__}`"


def _parameter(name: str, place: str, description: str, example: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    return {
        "name": name,
        "in": place,
        "required": False,
        "description": description,
        "schema": schema,
        "example": example,
    }


def page(document: dict[str, Any]) -> str:
    """The operations as plain HTML."""
    rows = [
        _operation(path, method, operation)
        for path, methods in sorted(document["paths"].items())
        for method, operation in methods.items()
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Teji API</title>'
        '<meta name="viewport" content="width=device-width"></head><body>'
        f"<h1>{escape(document['info']['title'])} {escape(document['info']['version'])}</h1>"
        f"<pre>{escape(document['info']['description'])}</pre>"
        '<p>For programs: <a href="/api/v1/openapi.json">openapi.json</a>.</p>' + "".join(rows) + "</body></html>"
    )


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    parameters = "".join(
        f"<li><code>{escape(item['name'])}</code> ({escape(item['in'])}"
        f"{', required' if item.get('required') else ''}): {escape(item.get('description', ''))}</li>"
        for item in operation.get("parameters", ())
    )
    responses = "".join(
        f"<li><code>{escape(status)}</code> {escape(item.get('description', ''))}</li>"
        for status, item in operation.get("responses", {}).items()
    )
    return (
        f"<h2><code>{method.upper()} {escape(path)}</code></h2><p><b>{escape(operation.get('summary', ''))}</b></p>"
        f"<pre>{escape(operation.get('description', ''))}</pre>"
        + (f"<p>Parameters</p><ul>{parameters}</ul>" if parameters else "")
        + f"<p>Responses</p><ul>{responses}</ul>"
    )
