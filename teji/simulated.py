"""The simulated exchange as a program to start: its settings checked here, so that a mistake is one sentence."""

from typing import Any

from pydantic import ValidationError

from schemas.errors import Misconfigured
from sim.settings import SimSettings


def checked(given: dict[str, Any]) -> SimSettings:
    try:
        return SimSettings.model_validate(given)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')} (it is {e['input']!r})"
            for e in error.errors()
        )
        raise Misconfigured(f"The simulated exchange cannot start so. {wrong}.") from None


def arguments(settings: SimSettings) -> list[str]:
    """The options of `python -m sim` that make these settings."""
    options = ["host", "port", "seed", "instruments", "clock", "speed", "conflation_ms", "ping_s"]
    made = [part for name in options for part in (f"--{name.replace('_', '-')}", str(getattr(settings, name)))]
    if settings.start is not None:
        made += ["--start", settings.start.isoformat()]
    made += [part for timeline in settings.fault for part in ("--fault", timeline)]
    if settings.plus_plan:
        made.append("--plus-plan")
    if not settings.auto_approve:
        made.append("--ask")
    return made
