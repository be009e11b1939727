"""The last state of an instrument: a value in the hash `quotes:{k}`, the REST quote and the SSE `tick` event."""

from pydantic import BaseModel, ConfigDict


class Quote(BaseModel):
    """Null means: not known. `ts` is venue time, `rx` when we received it."""

    model_config = ConfigDict(frozen=True)

    instrument: str
    ts: int  # epoch ms
    rx: int  # epoch ns
    ltp: float | None
    ltt: int | None  # epoch ms
    ltq: int | None
    cp: float | None
    atp: float | None
    vtt: int | None
    oi: float | None
    iv: float | None
    tbq: float | None
    tsq: float | None
    delta: float | None
    theta: float | None
    gamma: float | None
    vega: float | None
    rho: float | None
    bid: float | None
    bid_qty: int | None
    ask: float | None
    ask_qty: int | None
    iep: float | None
    ieq: int | None
