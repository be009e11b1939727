"""Every setting, typed, read once at the start of a process: environment first, then `.env`, then the default.

The README's table comes from the descriptions here (`teji config --markdown`); a test holds the two together.
"""

from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Self
from urllib.parse import quote, urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from schemas.commands import Mode
from schemas.errors import Misconfigured
from schemas.gtt import Engine
from schemas.orders import Product, TradingMode


class Venue(StrEnum):
    SIM = "sim"
    UPSTOX = "upstox"


class LogFormat(StrEnum):
    AUTO = "auto"
    HUMAN = "human"
    JSON = "json"


class FeedPlan(StrEnum):
    """What the account has paid for."""

    NORMAL = "normal"
    PLUS = "plus"


class CapScope(StrEnum):
    """What the venue's limits of instruments count."""

    CONNECTION = "connection"
    USER = "user"


class Brokerage(StrEnum):
    UPSTOX = "upstox"
    ZERODHA = "zerodha"
    NONE = "none"


class Freeze(StrEnum):
    """An order above the exchange's largest size."""

    SLICE = "slice"
    REFUSE = "refuse"


class Leftover(StrEnum):
    """What is not filled of a market order, which is a protected limit order in truth, after TEJI_LEFTOVER_S."""

    KEEP = "keep"
    CANCEL = "cancel"
    CHASE = "chase"  # move the limit to a new protected one, three times at most, then cancel


class Sizer(StrEnum):
    FIXED = "fixed"
    PERCENT = "percent"
    ATR = "atr"
    VOLATILITY = "volatility"
    KELLY = "kelly"


class Calendar(StrEnum):
    EXCHANGE = "exchange"
    ALWAYS = "always"


#: The venue's limit of sockets per user, by plan.
FEED_SOCKETS: Final[dict[FeedPlan, int]] = {FeedPlan.NORMAL: 2, FeedPlan.PLUS: 5}


class Settings(BaseSettings):
    """One object per process. Names are those of the environment, in lower case."""

    model_config = SettingsConfigDict(
        env_file=".env", extra="ignore", frozen=True, populate_by_name=True, env_ignore_empty=True
    )

    # Where things are
    teji_home: Path = Field(Path(".teji"), description="Folder of embedded data, tapes, secrets and logs")
    redis_url: str = Field(
        "",
        description="An own Redis, 6.2 or newer; `redis+cluster://`, `redis+sentinel://` too; empty: the embedded one",
    )
    database_url: SecretStr = Field(
        SecretStr(""), description="An own Postgres 14 or newer; empty starts the embedded one"
    )
    postgres_server: str = Field("", description="Postgres host, where DATABASE_URL is not set")
    postgres_port: int = Field(5432, ge=1, le=65535, description="Postgres port")
    postgres_user: str = Field("teji", description="Postgres user")
    postgres_password: SecretStr = Field(SecretStr(""), description="Postgres password")
    postgres_db: str = Field("teji", description="Postgres database")

    # The venue
    teji_venue: Venue = Field(Venue.SIM, description="Whose feed and orders: `sim` or `upstox`")
    teji_mode: TradingMode = Field(TradingMode.PAPER, description="`paper`, `shadow` or `live`")
    upstox_api_key: str = Field("", description="API key of your Upstox app")
    upstox_api_secret: SecretStr = Field(SecretStr(""), description="API secret of your Upstox app")
    upstox_redirect_uri: str = Field("", description="Redirect URI registered with the app")
    upstox_access_token: SecretStr = Field(SecretStr(""), description="A ready access token; dies at 03:30 IST")
    upstox_api_url: str = Field("https://api.upstox.com", description="REST host of the venue")
    upstox_order_url: str = Field("https://api-hft.upstox.com", description="Order host of the venue")
    upstox_assets_url: str = Field("https://assets.upstox.com", description="Host of the instrument files")
    upstox_feed_url: str = Field("", description="Replaces the feed socket that the venue's authorize call names")

    # What is streamed
    teji_instruments: Annotated[tuple[str, ...], NoDecode] = Field(
        ("demo",), description="Keys, underlyings (`NIFTY`) or `demo`, comma-separated, subscribed at start"
    )
    teji_feed_mode: Mode = Field(Mode.FULL, description="`ltpc`, `option_greeks`, `full` or `full_d30`")
    teji_feed_plan: FeedPlan = Field(FeedPlan.NORMAL, description="`normal` or `plus`: more sockets, and `full_d30`")
    teji_feed_connections: int = Field(
        0, ge=0, le=5, description="Feed sockets to use, all processes together; 0: all of the plan, 2 or 5"
    )
    teji_feed_cap_scope: CapScope = Field(
        CapScope.CONNECTION, description="The venue's caps of instruments count per `connection` or per `user`"
    )
    teji_feed_move_s: float = Field(
        10.0, gt=0, description="A feed socket that is away this long hands its instruments to the others"
    )
    teji_feed_unseen_s: float = Field(
        10.0, gt=0, description="Open market: what sent nothing this long is asked for again, once, then reported"
    )
    teji_feed_silent_s: float = Field(
        120.0, gt=0, description="An instrument silent this long, and 8 times its longest pause, is reported"
    )
    teji_feed_stale_s: float = Field(15.0, gt=0, description="Open market, no data for this long: the feed is stale")
    teji_feed_ping_s: float = Field(
        5.0, gt=0, description="Idle feed is pinged after this; no pong for as long ends it"
    )
    teji_buffer_mb: int = Field(256, ge=1, description="Ticks held in memory while Redis is away, MiB")
    teji_backfill: bool = Field(True, description="Fill missed minutes and the session so far from the venue's history")
    teji_backfill_days: int = Field(
        5, ge=0, le=15, description="Finished trading days that history still fills and corrects; 0: today only"
    )
    teji_warmup_min: int = Field(
        120, ge=0, le=1440, description="Minutes of history fetched for an option; others get the session so far"
    )
    teji_calendar: Calendar = Field(
        Calendar.EXCHANGE, description="`exchange`: bars in trading hours only; `always`: the demo never closes"
    )
    teji_grace_ms: int = Field(2000, ge=0, le=60_000, description="Venue time between a minute's end and its bars")
    teji_tape: bool = Field(False, description="Record everything that the feed brings, for `teji replay`")
    teji_tape_keep_days: int = Field(7, ge=1, description="Days of tapes kept")
    teji_tape_max_gb: float = Field(20.0, gt=0, description="GB that all tapes may take; the oldest go first")

    teji_rate: float = Field(
        0.0525, ge=-0.1, le=1.0, description="Interest rate a year for own Greeks, as a fraction: the repo rate"
    )

    # Trading: every limit is of one account (paper, shadow, live), and may be set otherwise per strategy
    teji_capital: Decimal = Field(Decimal(1_000_000), gt=0, description="Rupees that an account starts with")
    teji_strategies: str = Field(
        "", description="TOML file with modes, limits and sizers by strategy; empty: TEJI_HOME/strategies.toml"
    )
    teji_product: Product = Field(Product.INTRADAY, description="Product of orders that signals make: `I`, `D`, `MTF`")
    teji_risk_position: float = Field(0.02, gt=0, le=1, description="Most of the capital in one position")
    teji_risk_trade: float = Field(0.02, gt=0, le=1, description="Most of the capital that one trade may lose")
    teji_risk_stop_atr: float = Field(2.0, gt=0, description="Stop of a signal without one, in ATR from its price")
    teji_risk_target_atr: float = Field(4.0, gt=0, description="Target of a signal without one, in ATR from its price")
    teji_risk_trail: float = Field(
        0.01, ge=0, lt=1, description="Trailing gap of a signal's stop, as a part of the price; 0: none"
    )
    teji_risk_day_loss: float = Field(0.05, gt=0, le=1, description="Loss of a day, of the capital, that halts")
    teji_risk_drawdown: float = Field(0.20, gt=0, le=1, description="Loss since the highest equity that halts")
    teji_risk_trades: int = Field(50, ge=1, description="Entries a day")
    teji_risk_duplicates: bool = Field(
        False, description="Let a strategy add to a position that it holds, by another signal"
    )
    teji_sizer: Sizer = Field(Sizer.ATR, description="`fixed`, `percent`, `atr`, `volatility` or `kelly`")
    teji_size: float = Field(
        1.0, gt=0, description="Of the sizer: lots; percent of capital; the others: a factor on their result"
    )
    teji_volatility_target: float = Field(0.10, gt=0, description="Yearly, of the `volatility` sizer")
    teji_kelly_cap: float = Field(0.25, gt=0, le=1, description="Most of the full Kelly stake that is used")
    teji_freeze: Freeze = Field(Freeze.SLICE, description="Above the freeze quantity: `slice` or `refuse`")
    teji_protection: float = Field(
        -1.0, ge=-1, le=25, description="Percent around the price for market orders; -1: the venue's table"
    )
    teji_leftover: Leftover = Field(Leftover.CANCEL, description="Unfilled rest of those: `keep`, `cancel` or `chase`")
    teji_leftover_s: float = Field(10.0, gt=0, description="After this long")
    teji_square_off: str = Field(
        "I=10",
        pattern=r"^([A-Z]+=\d+(,[A-Z]+=\d+)*)?$",
        description="Minutes before its session ends that a product's positions are closed: `I=10,MTF=5`; empty: never",
    )
    teji_gtt_engine: Engine = Field(Engine.AUTO, description="Who watches GTT triggers: `venue`, `ours` or `auto`")
    teji_order_budget: str = Field(
        "8,450,1800",
        pattern=r"^\d+,\d+,\d+$",
        description="Order writes a second, a minute and half an hour; the venue's limits are 10, 500 and 2000",
    )
    teji_order_timeout_s: float = Field(
        5.0, gt=0, le=60, description="No answer to an order for this long: it is asked about"
    )
    teji_unknown_s: float = Field(
        5.0, ge=0.5, description="An order that the venue denies for this long, in all its books, was never there"
    )
    teji_intent_s: float = Field(30.0, gt=0, description="Older entries are not sent any more; exits always are")
    teji_reconcile_s: float = Field(30.0, gt=0, description="Our books are compared with the venue's this often")
    teji_algo_name: str = Field("", max_length=64, description="Name of your registered algo, sent with each order")
    teji_egress_ip: str = Field(
        "", description="Our address on the internet, or an https address that tells it; live orders need it registered"
    )
    teji_notifier_secret: SecretStr = Field(
        SecretStr(""), description="Unguessable end of the notifier's path, for tokens that the venue pushes"
    )
    teji_paper_latency_ms: float = Field(20.0, ge=0, description="From an order's acceptance until it can be filled")
    teji_paper_slippage_bps: float = Field(
        5.0, ge=0, description="Added against us to fills that take from the book, beyond its depth, in 1/100 percent"
    )
    teji_brokerage: Brokerage = Field(Brokerage.UPSTOX, description="Whose fees: `upstox`, `zerodha` or `none`")
    teji_dp_charge: Decimal = Field(
        Decimal("18.50"), ge=0, description="Fee per share and day of delivery sales, rupees"
    )
    teji_journal_years: int = Field(5, ge=5, description="Years that the order journal is kept; the rule is 5 or more")

    # How it runs
    teji_shards: int = Field(1, ge=1, le=256, description="Parts the instruments are spread over")
    teji_lease_s: float = Field(3.0, ge=0.5, le=60, description="A dead worker's shards move after this long")
    teji_keep_ticks_min: int = Field(15, ge=1, description="Minutes of ticks kept in Redis")
    teji_keep_ticks_mb: int = Field(1024, ge=16, description="MiB of ticks kept in Redis, a shard; less time then")
    teji_keep_bars_h: int = Field(16, ge=1, description="Hours of bars and chains kept in Redis")
    teji_host: str = Field("127.0.0.1", description="Address the gateway binds to")
    teji_port: int = Field(8000, ge=0, le=65535, description="Port of the gateway")
    teji_metrics_host: str = Field("127.0.0.1", description="Address of each worker's /metrics")
    teji_metrics_port: int = Field(0, ge=0, le=65535, description="Port of each worker's /metrics; 0 picks a free one")
    teji_sse_heartbeat_s: float = Field(15.0, gt=0, description="Comment sent to quiet SSE clients this often")
    teji_sse_buffer_kb: int = Field(1024, ge=16, description="Unsent KiB after which a slow SSE client is cut off")
    teji_log: LogFormat = Field(LogFormat.AUTO, description="`human`, `json`, or `auto`: human on a terminal")
    teji_log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Least level logged")
    teji_sim_port: int = Field(8100, ge=0, le=65535, description="Port of the simulated exchange in the demo")
    teji_sim_seed: int = Field(7, ge=0, description="Seed of the simulated market")
    teji_sim_instruments: int = Field(500, ge=30, le=20_000, description="Instruments of the simulated market")

    @field_validator("teji_instruments", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("teji_log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _of_the_plan(self) -> Self:
        most = FEED_SOCKETS[self.teji_feed_plan]
        if self.teji_feed_connections > most:
            raise ValueError(
                f"TEJI_FEED_CONNECTIONS: {self.teji_feed_connections} sockets need the Plus plan. Set "
                f"TEJI_FEED_PLAN=plus if the account has it, else at most {most}"
            )
        if self.teji_feed_mode is Mode.FULL_D30 and self.teji_feed_plan is not FeedPlan.PLUS:
            raise ValueError(
                "TEJI_FEED_MODE: full_d30 needs the Plus plan. Set TEJI_FEED_PLAN=plus if the account has it, "
                "else the mode full"
            )
        return self

    @field_validator("teji_square_off")
    @classmethod
    def _of_products(cls, text: str) -> str:
        known = {product.value for product in Product}
        if unknown := [part for part in text.split(",") if part and part.split("=")[0] not in known]:
            raise ValueError(f"{unknown[0].split('=')[0]} is no product: {', '.join(sorted(known))}")
        return text

    @property
    def feed_sockets(self) -> int:
        """How many sockets to the venue all our processes may have together."""
        return self.teji_feed_connections or FEED_SOCKETS[self.teji_feed_plan]

    @property
    def order_budget(self) -> tuple[tuple[float, int], ...]:
        """(seconds, writes) windows."""
        second, minute, half_hour = (int(part) for part in self.teji_order_budget.split(","))
        return ((1.0, second), (60.0, minute), (1800.0, half_hour))

    @property
    def square_off_min(self) -> dict[Product, int]:
        """Minutes before the end of its session, by product."""
        pairs = (part.split("=") for part in self.teji_square_off.split(",") if part)
        return {Product(product): int(minutes) for product, minutes in pairs}

    @property
    def strategies_file(self) -> Path:
        return Path(self.teji_strategies).expanduser() if self.teji_strategies else self.home / "strategies.toml"

    @property
    def home(self) -> Path:
        return self.teji_home.expanduser().resolve()

    @property
    def postgres_url(self) -> str:
        """The DSN of an own Postgres, or empty for the embedded one."""
        if url := self.database_url.get_secret_value():
            return url
        host = self.postgres_server
        if not host:
            return ""
        user, password, database = (
            quote(part, safe="")
            for part in (self.postgres_user, self.postgres_password.get_secret_value(), self.postgres_db)
        )
        login = f"{user}:{password}" if password else user
        if host.startswith("/"):  # a folder with its socket
            return f"postgresql://{login}@/{database}?host={quote(host)}&port={self.postgres_port}"
        return f"postgresql://{login}@{f'[{host}]' if ':' in host else host}:{self.postgres_port}/{database}"

    @property
    def secrets(self) -> list[str]:
        """What must not be shown, whatever stands around it."""
        held = [value.get_secret_value() for _, value in self if isinstance(value, SecretStr)]
        passwords = [urlsplit(url).password for url in (self.redis_url, self.postgres_url) if url]
        return [secret for secret in [*held, *passwords] if secret]


_SECRET_WORDS: Final = ("secret", "token", "password", "api_key", "url")


def load(**overrides: Any) -> Settings:
    """The settings of this process, or one sentence per wrong one."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise Misconfigured("Wrong settings. " + "; ".join(_complaint(dict(e)) for e in error.errors())) from None
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"The file .env cannot be read: {error}.") from None


def _complaint(error: dict[str, Any]) -> str:
    if not error["loc"]:  # settings that do not go together: the sentence names them
        return str(error["msg"]).removeprefix("Value error, ")
    name = str(error["loc"][0])
    shown = "" if any(word in name.lower() for word in _SECRET_WORDS) else f" (it is {error['input']!r})"
    return f"{name.upper()}: {error['msg']}{shown}"
