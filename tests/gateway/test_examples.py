"""Every call about trading has examples in OpenAPI, of what is sent and of what comes back, and they are right."""

from types import SimpleNamespace
from typing import Any, cast

import jsonschema

from gateway import app, docs
from gateway.context import Gateway

TAGS = {"orders", "GTT", "portfolio", "trading"}
DOCUMENT = docs.describe(app.rest(cast(Gateway, SimpleNamespace())))
CALLS = {
    f"{method.upper()} {path}": operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
    if TAGS & set(operation["tags"]) and operation.get("operationId", "")
}


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = DOCUMENT["components"]["schemas"][name] if name else schema
    return found


def example_of(content: dict[str, Any]) -> Any:
    """Beside the schema, or in the model that it means."""
    if "example" in content:
        return content["example"]
    if "examples" in content:
        return next(iter(content["examples"].values()))["value"]
    schema = resolved(content["schema"])
    if schema.get("type") == "array":
        return [resolved(schema["items"]).get("example")]
    for part in schema.get("anyOf", ()):
        schema = resolved(part) if "example" in resolved(part) else schema
    return schema.get("example")


def wrong(content: dict[str, Any]) -> str:
    example = example_of(content)
    if example in (None, [None]):
        return "no example"
    whole = {**content["schema"], "components": DOCUMENT["components"]}
    errors = sorted(jsonschema.Draft202012Validator(whole).iter_errors(example), key=str)
    return "; ".join(error.message[:200] for error in errors)


def test_every_answer_has_an_example_that_fits_its_schema() -> None:
    answers = {call: operation["responses"]["200"]["content"]["application/json"] for call, operation in CALLS.items()}
    assert len(answers) >= 25
    assert {call: why for call, content in answers.items() if (why := wrong(content))} == {}


def test_every_body_has_examples_that_fit_its_schema() -> None:
    bodies = {
        call: operation["requestBody"]["content"]["application/json"]
        for call, operation in CALLS.items()
        if "requestBody" in operation
    }
    assert len(bodies) >= 10
    assert {call: why for call, content in bodies.items() if (why := wrong(content))} == {}


def test_every_change_takes_an_idempotency_key() -> None:
    without = {
        call
        for call, operation in CALLS.items()
        if not call.startswith("GET")
        and "Idempotency-Key" not in {parameter["name"] for parameter in operation.get("parameters", ())}
    }
    assert without == {"POST /api/v1/signals"}  # a signal's own id is its key
