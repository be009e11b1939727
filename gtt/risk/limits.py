"""What is allowed: the account's limits from the settings, and what the strategies file says otherwise, by strategy.

    [defaults]              # of every strategy
    duplicates = false

    [strategy.orb]
    mode = "live"           # off, paper, shadow, live: the strategy's own switch
    capital = 0.25          # a quarter of the account's capital is this strategy's
    position = 0.10         # of that
    sizer = "fixed"
    size = 2                # lots
    square_off = { I = 20 }

A wrong file is one sentence that names file, section and key; it stops a start, and changes nothing while running.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from bus.settings import Freeze, Leftover, Settings, Sizer
from schemas.errors import Misconfigured
from schemas.orders import Product, StrategyMode

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """Parts of the capital, and entries a day."""

    position: Decimal
    trade_risk: Decimal
    day_loss: Decimal
    drawdown: Decimal
    trades: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """For one strategy (or people): the account's caps hold for all together, `own` for what is the strategy's."""

    account: Caps
    own: Caps
    share: Decimal = Decimal(1)  # of the account's capital that is the strategy's
    mode: StrategyMode = StrategyMode.PAPER
    duplicates: bool = False
    stop_atr: Decimal = Decimal(2)
    target_atr: Decimal = Decimal(4)
    trail: Decimal = Decimal("0.01")
    sizer: Sizer = Sizer.ATR
    size: Decimal = Decimal(1)
    volatility_target: Decimal = Decimal("0.1")
    kelly_cap: Decimal = Decimal("0.25")
    product: Product = Product.INTRADAY
    square_off_min: Mapping[Product, int] = field(default_factory=dict)
    freeze: Freeze = Freeze.SLICE
    protection: Decimal = Decimal(-1)
    leftover: Leftover = Leftover.CANCEL
    leftover_s: float = 10.0
    intent_s: float = 30.0
    quote_s: float = 60.0  # older prices make no market entry


def of_settings(settings: Settings) -> Limits:
    """The account's: those of people, and of a strategy that the file does not name."""
    caps = Caps(
        position=_exact(settings.teji_risk_position),
        trade_risk=_exact(settings.teji_risk_trade),
        day_loss=_exact(settings.teji_risk_day_loss),
        drawdown=_exact(settings.teji_risk_drawdown),
        trades=settings.teji_risk_trades,
    )
    return Limits(
        account=caps,
        own=caps,
        duplicates=settings.teji_risk_duplicates,
        stop_atr=_exact(settings.teji_risk_stop_atr),
        target_atr=_exact(settings.teji_risk_target_atr),
        trail=_exact(settings.teji_risk_trail),
        sizer=settings.teji_sizer,
        size=_exact(settings.teji_size),
        volatility_target=_exact(settings.teji_volatility_target),
        kelly_cap=_exact(settings.teji_kelly_cap),
        product=settings.teji_product,
        square_off_min=settings.square_off_min,
        freeze=settings.teji_freeze,
        protection=_exact(settings.teji_protection),
        leftover=settings.teji_leftover,
        leftover_s=settings.teji_leftover_s,
        intent_s=settings.teji_intent_s,
    )


def _exact(number: float) -> Decimal:
    return Decimal(repr(number))


def _number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError("a number is wanted")
    return value


def _whole(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("a whole number is wanted")
    return value


def _yes_or_no(value: object) -> object:
    if not isinstance(value, bool):
        raise ValueError("true or false is wanted")
    return value


def _protection(value: Decimal) -> Decimal:
    if value != -1 and value <= 0:
        raise ValueError("-1 (the venue's table), or more than 0 is wanted")
    return value


_Number = Annotated[Decimal, BeforeValidator(_number)]
_Part = Annotated[_Number, Field(gt=0, le=1)]
_Positive = Annotated[_Number, Field(gt=0)]
_Seconds = Annotated[float, BeforeValidator(_number), Field(gt=0, allow_inf_nan=False)]


class Section(BaseModel):
    """The keys of a section of the file, with the bounds of the settings of the same meaning."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: StrategyMode | None = None
    capital: _Part | None = None
    position: _Part | None = None
    risk_per_trade: _Part | None = None
    day_loss: _Part | None = None
    drawdown: _Part | None = None
    trades: Annotated[int, BeforeValidator(_whole), Field(ge=1)] | None = None
    duplicates: Annotated[bool, BeforeValidator(_yes_or_no)] | None = None
    stop_atr: _Positive | None = None
    target_atr: _Positive | None = None
    trail: Annotated[_Number, Field(ge=0, lt=1)] | None = None
    sizer: Sizer | None = None
    size: _Positive | None = None
    volatility_target: _Positive | None = None
    kelly_cap: _Part | None = None
    product: Product | None = None
    square_off: dict[Product, Annotated[int, BeforeValidator(_whole), Field(ge=0)]] | None = None
    freeze: Freeze | None = None
    protection: Annotated[_Number, Field(le=25), AfterValidator(_protection)] | None = None
    leftover: Leftover | None = None
    leftover_s: _Seconds | None = None
    intent_s: _Seconds | None = None
    quote_s: _Seconds | None = None

    def over(self, base: Limits) -> Limits:
        """`base` with what is said here instead."""
        said = self.model_dump(exclude_none=True)
        if "risk_per_trade" in said:
            said["trade_risk"] = said.pop("risk_per_trade")
        if "square_off" in said:
            said["square_off_min"] = said.pop("square_off")
        if "capital" in said:
            said["share"] = said.pop("capital")
        caps = {name: said.pop(name) for name in Caps.__slots__ if name in said}
        return replace(base, own=replace(base.own, **caps), **said)


class Strategies:
    """Limits by strategy, from the settings and the text of the file."""

    def __init__(self, settings: Settings, text: str = "", file: str = "strategies.toml") -> None:
        self._people = of_settings(settings)
        parts = _parsed(text, file)
        if unknown := sorted(parts.keys() - {"defaults", "strategy"}):
            raise Misconfigured(f"{file}: [{unknown[0]}] is no section; there are [defaults] and [strategy.<name>].")
        defaults = _section(parts.get("defaults", {}), file, "defaults")
        if defaults.mode is StrategyMode.LIVE:
            raise Misconfigured(
                f"{file}, [defaults], mode: live is a word for each strategy alone, in [strategy.<name>]."
            )
        self._others = defaults.over(self._people)
        named = parts.get("strategy", {})
        if not isinstance(named, dict):
            raise Misconfigured(f"{file}: strategy is a section, [strategy.<name>].")
        self._by_name: dict[str, Limits] = {}
        for name, values in named.items():
            if not _NAME.fullmatch(name):
                raise Misconfigured(
                    f"{file}: {name!r} is no name of a strategy: letters, digits, _ . and -, at most 64."
                )
            self._by_name[name] = _section(values, file, f"strategy.{name}").over(self._others)

    @property
    def names(self) -> tuple[str, ...]:
        """Those that the file names."""
        return tuple(sorted(self._by_name))

    @property
    def people(self) -> Limits:
        return self._people

    def of(self, strategy: str) -> Limits:
        """Of a strategy; the empty name: people, for whom the file says nothing."""
        return self._by_name.get(strategy, self._others) if strategy else self._people


def _parsed(text: str, file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise Misconfigured(f"{file} is no TOML: {error}.") from None


def _section(values: object, file: str, name: str) -> Section:
    if not isinstance(values, dict):
        raise Misconfigured(f"{file}: {name} is a section, [{name}].")
    try:
        return Section.model_validate(values)
    except ValidationError as error:
        raise Misconfigured(f"{file}, [{name}], {_complaint(dict(error.errors()[0]))}.") from None


def _complaint(error: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in error["loc"] if part != "[key]")
    if error["type"] == "extra_forbidden":
        return f"{key}: there is no such key; there are {', '.join(Section.model_fields)}"
    shown = str(error["input"]) if isinstance(error["input"], Decimal) else repr(error["input"])
    return f"{key}: {str(error['msg']).removeprefix('Value error, ')} (it is {shown})"


class StrategiesFile:
    """The file on disk: `limits` is what was last right; `refresh` reads it again where it has changed."""

    def __init__(self, settings: Settings) -> None:
        """Misconfigured where the file is wrong: a start is refused. Without a file the settings hold for all."""
        self._settings = settings
        self._path: Path = settings.strategies_file
        self._seen = self._stamp()
        self._settling: tuple[int, int, int] | None = self._seen
        self.limits: Strategies = Strategies(settings, self._text(), str(self._path))

    def refresh(self) -> str | None:
        """None: nothing to tell. Else one sentence: what was taken over, or why the old limits stay.

        To be called every second or so: a file is read when it was the same twice, not while somebody writes it.
        """
        stamp, before = self._stamp(), self._settling
        self._settling = stamp
        if stamp == self._seen or stamp != before:
            return None
        self._seen = stamp
        try:
            self.limits = Strategies(self._settings, self._text(), str(self._path))
        except Misconfigured as error:
            return f"The limits stay as they were. {error}"
        if stamp is None:
            return f"{self._path} is gone: the limits of the settings hold for every strategy."
        names = self.limits.names
        return f"{self._path} was read again: {', '.join(names) if names else 'it names no strategy'}."

    def _stamp(self) -> tuple[int, int, int] | None:
        """What differs when the file does; None: there is none."""
        try:
            state = self._path.stat()
        except FileNotFoundError:
            return None
        except OSError:
            return 0, 0, 0  # reading it says why
        return state.st_mtime_ns, state.st_size, state.st_ino

    def _text(self) -> str:
        try:
            return self._path.read_text("utf-8")
        except FileNotFoundError:
            if self._settings.teji_strategies:  # it was named, so somebody relies on it
                raise Misconfigured(f"TEJI_STRATEGIES: there is no file {self._path}.") from None
            return ""
        except (OSError, UnicodeDecodeError) as error:
            raise Misconfigured(f"{self._path} cannot be read: {error}.") from None
