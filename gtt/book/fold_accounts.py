"""How facts change an account: positions by trades, cash, the day. Pure."""

from decimal import Decimal

from gtt.book import facts
from gtt.book.book import AccountRecord, Book, Flatten, Intent, PositionRecord, key_of
from gtt.book.touched import Touched
from gtt.risk.exposure import scale_of
from schemas.money import ZERO
from schemas.orders import Fill, Order, Product, Side, TradingMode


def position_name(mode: TradingMode, instrument: str, product: Product) -> str:
    """The field of `book:positions`."""
    return f"{mode.value}|{key_of(instrument, product)}"


def traded(book: Book, mode: TradingMode, strategy: str) -> None:
    """One more entry today."""
    account = book.account(mode)
    account.trades += 1
    account.trades_own[strategy] = account.trades_own.get(strategy, 0) + 1


def filled(book: Book, fill: Fill, done: list[Touched]) -> None:
    account = book.account(fill.mode)
    position = _position(account, fill.instrument, fill.product)
    signed = fill.side.sign * fill.quantity
    scale = scale_of(fill.instrument)
    position.realised += move(position, signed, fill.price) * scale
    value = fill.price * fill.quantity * scale
    if fill.side is Side.BUY:
        position.buy_quantity += fill.quantity
        position.buy_value += value
    else:
        position.sell_quantity += fill.quantity
        position.sell_value += value
    position.charges += fill.charges.total
    position.ts = fill.ts
    _of_strategy(position, fill.strategy, signed)
    cash = -fill.side.sign * value - fill.charges.total
    account.flow += cash
    account.flows[fill.strategy] = account.flows.get(fill.strategy, ZERO) + cash
    account.charges += fill.charges.total
    done.append(Touched("position", position_name(fill.mode, fill.instrument, fill.product)))


def move(position: PositionRecord, signed: int, price: Decimal) -> Decimal:
    """Units come or go at a price; returns what that realises. What is added moves the average, what goes does not."""
    held = position.quantity
    position.quantity += signed
    if held * signed >= 0:
        position.average_price = (position.average_price * abs(held) + price * abs(signed)) / abs(held + signed)
        return ZERO
    closed = min(abs(held), abs(signed))
    realised = (price - position.average_price) * closed * (1 if held > 0 else -1)
    if abs(signed) > abs(held):
        position.average_price = price  # turned over
    elif not position.quantity:
        position.average_price = ZERO
    return realised


def attribute(book: Book, order: Order, strategy: str, units: int, cash: Decimal) -> None:
    """What was counted as people's is a strategy's."""
    account = book.account(order.mode)
    position = _position(account, order.instrument, order.product)
    _of_strategy(position, "", -units)
    _of_strategy(position, strategy, units)
    for name, moved in (("", -cash), (strategy, cash)):
        account.flows[name] = account.flows.get(name, ZERO) + moved


def _of_strategy(position: PositionRecord, strategy: str, signed: int) -> None:
    units = position.strategies.get(strategy, 0) + signed
    position.strategies = {**position.strategies, strategy: units}
    if not units:
        del position.strategies[strategy]
    if not position.quantity:
        position.strategies = {}  # nobody holds anything of nothing


def _position(account: AccountRecord, instrument: str, product: Product) -> PositionRecord:
    key = key_of(instrument, product)
    if key not in account.positions:
        account.positions[key] = PositionRecord(instrument=instrument, product=product)
    return account.positions[key]


def position_seen(book: Book, fact: facts.PositionSeen, done: list[Touched]) -> None:
    """The difference counts as traded by people at the venue's average, so that equity does not jump."""
    if fact.account is None:
        return
    account = book.account(fact.account)
    position = _position(account, fact.instrument, fact.product)
    signed = fact.quantity - position.quantity
    price = fact.average_price or position.average_price
    value = signed * price * scale_of(fact.instrument)
    account.flow -= value
    account.flows[""] = account.flows.get("", ZERO) - value
    position.quantity, position.ts = fact.quantity, fact.ts
    position.average_price = price if fact.quantity else ZERO
    _of_strategy(position, "", signed)
    done.append(Touched("position", position_name(fact.account, fact.instrument, fact.product)))


def funds_seen(book: Book, fact: facts.FundsSeen, done: list[Touched]) -> None:
    if fact.account is not None:
        account = book.account(fact.account)
        account.funds, account.funds_ts, account.holdings = fact.funds, fact.ts, fact.holdings
        done.append(Touched("accounts"))


def day_opened(book: Book, fact: facts.DayOpened) -> None:
    if fact.account is None:
        return
    account = book.account(fact.account)
    account.day, account.day_equity, account.day_own = fact.day, fact.equity, fact.own
    account.peak = fact.equity if account.peak is None else max(account.peak, fact.equity)
    account.charges, account.trades, account.trades_own, account.breached = ZERO, 0, {}, ""
    kept = {key: position for key, position in account.positions.items() if position.quantity}
    for position in kept.values():
        position.buy_quantity = position.sell_quantity = 0
        position.buy_value = position.sell_value = position.realised = position.charges = ZERO
    account.positions = kept


def marked(book: Book, fact: facts.Marked, done: list[Touched]) -> None:
    if fact.account is not None:
        book.account(fact.account).peak = fact.peak
        done.append(Touched("accounts"))


def breached(book: Book, fact: facts.Breached, done: list[Touched]) -> None:
    if fact.account is not None:
        book.account(fact.account).breached = fact.reason
        done.append(Touched("alert", f"{fact.account.value}: {fact.reason}", {"account": fact.account.value}))
        done.append(Touched("accounts"))


def flatten_asked(book: Book, fact: facts.FlattenAsked, _: list[Touched]) -> None:
    book.intents.setdefault(fact.by, Intent(ts=fact.ts))
    if fact.account is not None:
        plan = Flatten(
            by=fact.by,
            instrument=fact.instrument,
            product=fact.product,
            strategy=fact.strategy,
            asked_ts=fact.ts,
        )
        book.account(fact.account).flattening[key_of(fact.instrument, fact.product)] = plan


def flatten_done(book: Book, fact: facts.FlattenDone, _: list[Touched]) -> None:
    if fact.account is not None:
        book.account(fact.account).flattening.pop(key_of(fact.instrument, fact.product), None)
