"""What an entry waits for before it is decided, a moment and no longer: the list of instruments, a price, the price
limits of the day. Exits wait for none of these, except that one at the market cannot be made without a price. Pure."""

from gtt.desk import checking
from gtt.desk.here import Here
from market.sessions import Phase
from schemas.orders import TradingMode


def for_price(here: Here, name: str, key: str, strategy: str, *, at_market: bool) -> bool:
    """`name`: of the entry. Whether it is better decided in a moment; the feed is asked for the instrument. Where its
    market is closed no price comes, and no order would be taken."""
    if not here.scene.listed:
        return True
    instrument = here.scene.instrument(key)
    if instrument is None or checking.phase_of(here, key, instrument)[0] is Phase.CLOSED:
        return False
    quote = here.scene.quote(key)
    ts_ms = quote.ts_ms if quote is not None and quote.ltp is not None else 0
    too_old_ms = here.market_ms - int(here.scene.limits(strategy).quote_s * 1000)
    return here.following.waits(name, key, here.now_ms, ts_ms, old=at_market and ts_ms < too_old_ms)


def for_band(here: Here, name: str, key: str, mode: TradingMode) -> bool:
    """Only where real money is at stake: for paper they are read meanwhile."""
    if mode is not TradingMode.LIVE:
        here.bands.want(key)
        return False
    return here.bands.waits(name, key, here.today, here.now_ms)
