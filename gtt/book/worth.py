"""What an account is worth at the last prices, and what its positions look like to people. Pure."""

from collections.abc import Callable
from decimal import Decimal
from typing import Final

from gtt.book.book import AccountRecord, PositionRecord
from gtt.risk.exposure import scale_of
from gtt.risk.types import Tally
from schemas.money import ZERO
from schemas.orders import Position, TradingMode

Prices = Callable[[str], Decimal | None]

_PAISA: Final = Decimal("0.01")
_PRICE: Final = Decimal("0.0001")


def equity(account: AccountRecord, capital: Decimal, price: Prices) -> Decimal:
    """The capital, what trades brought and took, and what is held at its last price; without one, as bought."""
    held = sum((p.quantity * _worth_of(p, price) for p in account.positions.values() if p.quantity), ZERO)
    return capital + account.flow + held


def own_equity(account: AccountRecord, strategy: str, capital: Decimal, price: Prices) -> Decimal:
    """Of a strategy's part."""
    units = ((p, p.strategies.get(strategy, 0)) for p in account.positions.values())
    held = sum((count * _worth_of(p, price) for p, count in units if count), ZERO)
    return capital + account.flows.get(strategy, ZERO) + held


def tally(account: AccountRecord, capital: Decimal, price: Prices) -> Tally:
    now = equity(account, capital, price)
    opened = account.day_equity if account.day_equity is not None else capital + ZERO
    peak = max(now, account.peak if account.peak is not None else opened)
    return Tally(equity=now, peak_equity=peak, day_pnl=now - opened, trades=account.trades)


def own_tally(account: AccountRecord, strategy: str, capital: Decimal, price: Prices) -> Tally:
    now = own_equity(account, strategy, capital, price)
    opened = account.day_own.get(strategy, capital)
    return Tally(
        equity=now,
        peak_equity=max(now, opened),
        day_pnl=now - opened,
        trades=account.trades_own.get(strategy, 0),
    )


def strategies_of(account: AccountRecord) -> set[str]:
    """Those that hold something or have traded."""
    return {name for name in account.flows if name} | {
        name for position in account.positions.values() for name in position.strategies if name
    }


def unrealised(position: PositionRecord, price: Prices) -> Decimal | None:
    if not position.quantity:
        return ZERO
    last = price(position.instrument)
    if last is None:
        return None
    return (last - position.average_price) * position.quantity * scale_of(position.instrument)


def shown(position: PositionRecord, mode: TradingMode, venue: str, price: Prices, now_ms: int) -> Position:
    paper = unrealised(position, price)
    return Position(
        instrument=position.instrument,
        product=position.product,
        mode=mode,
        venue=venue,
        quantity=position.quantity,
        average_price=position.average_price.quantize(_PRICE),
        buy_quantity=position.buy_quantity,
        buy_value=position.buy_value.quantize(_PRICE),
        sell_quantity=position.sell_quantity,
        sell_value=position.sell_value.quantize(_PRICE),
        last_price=price(position.instrument),
        realised=position.realised.quantize(_PAISA),
        unrealised=None if paper is None else paper.quantize(_PAISA),
        charges=position.charges,
        strategies=position.strategies,
        ts=max(position.ts, now_ms),
    )


def _worth_of(position: PositionRecord, price: Prices) -> Decimal:
    """Of a unit."""
    last = price(position.instrument)
    return (position.average_price if last is None else last) * scale_of(position.instrument)
