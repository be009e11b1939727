"""The parts of the Compose file format that we use, as a JSON schema: strict, so that a misspelt key is noticed."""

from typing import Any

_TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
_WORDS: dict[str, Any] = {"type": "array", "items": {"type": "string"}, "minItems": 1}
_DURATION: dict[str, Any] = {"type": "string", "pattern": r"^\d+(ms|s|m|h)$"}


def _object(required: tuple[str, ...] = (), /, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _mapping(values: dict[str, Any], names: str = r"^[a-zA-Z0-9_.-]+$") -> dict[str, Any]:
    return {"type": "object", "patternProperties": {names: values}, "additionalProperties": False, "minProperties": 1}


_HEALTHCHECK = {
    "oneOf": [
        _object(("disable",), disable={"const": True}),
        _object(
            ("test",),
            test={"type": "array", "items": {"type": "string"}, "minItems": 2, "prefixItems": [{"enum": ["CMD"]}]},
            interval=_DURATION,
            timeout=_DURATION,
            retries={"type": "integer", "minimum": 1},
            start_period=_DURATION,
            start_interval=_DURATION,
        ),
    ]
}

_SERVICE = _object(
    ("image",),
    image=_TEXT,
    build=_object(("context", "dockerfile"), context=_TEXT, dockerfile=_TEXT),
    command=_WORDS,
    entrypoint=_WORDS,
    # an unquoted number or `yes` is not what it looks like once YAML has read it
    environment=_mapping({"type": "string"}, r"^[A-Z][A-Z0-9_]*$"),
    env_file={"type": "array", "items": _object(("path",), path=_TEXT, required={"type": "boolean"})},
    ports={"type": "array", "items": {"type": "string"}},
    volumes={"type": "array", "items": {"type": "string", "pattern": r"^[a-z]+:/[a-z/]+$"}},
    depends_on=_mapping(_object(("condition",), condition={"const": "service_healthy"})),
    healthcheck=_HEALTHCHECK,
    profiles=_WORDS,
    restart={"enum": ["no", "always", "on-failure", "unless-stopped"]},
    init={"type": "boolean"},
    stop_grace_period=_DURATION,
    security_opt=_WORDS,
    cap_drop=_WORDS,
)

SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]*$"},
        "services": _mapping(_SERVICE),
        "volumes": _mapping({"type": "null"}),
    },
    "patternProperties": {"^x-": {}},
    "required": ["services"],
    "additionalProperties": False,
}
