"""What strategies say, over the whole stack: the simulated exchange with real orders, paper and shadow beside it."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

from bus import clock
from bus.inbox import Output, Value
from market.instruments import Instrument
from schemas import streams
from schemas.gtt import Engine, Gtt, Leg, RuleStatus
from schemas.orders import OrderStatus, TradingMode
from schemas.signals import Signal, SignalSide
from tests.end_to_end.gtt_stack import Stack, stack, tradeable, until

STRATEGIES = """
[strategy.real]
mode = "live"
trail = 0
[strategy.mirror]
mode = "shadow"
[strategy.dry]
mode = "paper"
[strategy.asleep]
mode = "off"
"""
LIVE, SHADOW, PAPER = TradingMode.LIVE, TradingMode.SHADOW, TradingMode.PAPER


class Desk:
    def __init__(self, here: Stack) -> None:
        self.here = here

    async def signal(self, name: str, strategy: str, on: Instrument, side: str, **more: Any) -> str:
        said = Signal(id=name, strategy=strategy, instrument=on.key, ts=clock.now_ms(), side=SignalSide(side), **more)
        fields: dict[str, Value] = {"id": name, "strategy": strategy, "instrument": on.key, "ts": said.ts}
        output = Output(streams.SIGNALS, {**fields, "data": said.model_dump_json()})
        await self.here._writer.write([output], now_s=clock.monotonic_s())
        return f"signal:{name}"

    async def refusal(self, intent: str) -> str:
        """By which rule."""
        found: list[str] = []

        async def told() -> bool:
            for _, fields in await self.here.bus.redis.xrange(streams.ORDERS):
                if fields[b"kind"] == b"refused":
                    body = orjson.loads(fields[b"data"])
                    if body["intent_id"] == intent:
                        found.append(body["rule"])
            return bool(found)

        await until(self.here, told, f"{intent} is refused")
        return found[0]

    async def gtt(self, intent: str, *, entered: int) -> Gtt:
        def last() -> Gtt | None:
            return next((each[-1] for each in self.here.told.gtts.values() if each[-1].intent_id == intent), None)

        await self.here.told.until(
            lambda: (gtt := last()) is not None and gtt.entered == entered, lambda: f"a GTT of {intent}: {last()}"
        )
        found = last()
        assert found is not None
        return found

    async def held(self, mode: TradingMode, on: Instrument, units: int) -> None:
        def now() -> int:
            position = self.here.told.positions.get((mode.value, on.key, "I"))
            return position.quantity if position is not None else 0

        await self.here.told.until(
            lambda: now() == units, lambda: f"{units} units, but {now()} {self.here.told.alerts}"
        )

    async def traded(self, on: Instrument, price: float) -> None:
        await self.here.trade(on.key, price)
        await self.here.seen(on.key, price)

    def gone(self, intent: str) -> bool:
        return all(not each[-1].live for each in self.here.told.gtts.values() if each[-1].intent_id == intent)


async def test_signals_are_traded_where_their_strategy_is_and_guarded(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    (home / "strategies.toml").write_text(STRATEGIES)
    async with stack(redis_url, postgres_url, home) as here:
        desk = Desk(here)
        await _guarded_and_left(desk, here.free.pop())
        await _by_mode(desk, here.free.pop())
        await _halted(desk, here.free.pop())


async def _guarded_and_left(desk: Desk, on: Instrument) -> None:
    """Entry, stop and target are one GTT of the venue's; the same signal again is nothing; EXIT ends all of it."""
    lot = on.lot_size
    await desk.traded(on, 100.0)
    about: dict[str, Any] = {"quantity": lot, "stop_loss": Decimal(90), "take_profit": Decimal(120)}
    intent = await desk.signal("in", "real", on, "BUY", **about)
    await desk.signal("in", "real", on, "BUY", **about)
    await desk.traded(on, 100.05)  # an entry at the venue goes with the next trade
    gtt = await desk.gtt(intent, entered=lot)
    assert (gtt.engine, gtt.mode, gtt.strategy) == (Engine.VENUE, LIVE, "real")
    assert {rule.strategy for rule in gtt.rules} == set(Leg)
    await desk.held(LIVE, on, lot)
    assert await desk.refusal(await desk.signal("more", "real", on, "BUY", **about)) == "duplicate"

    await desk.signal("out", "real", on, "EXIT")
    await desk.held(LIVE, on, 0)
    await desk.here.told.until(lambda: desk.gone(intent), lambda: "the GTT has ended")
    filled = [order for order in desk.here.told.orders.values() if order.instrument == on.key]
    assert sorted(order.filled_quantity for order in filled if order.status is OrderStatus.COMPLETE) == [lot, lot]


async def _by_mode(desk: Desk, on: Instrument) -> None:
    """The same wish in three accounts, and in none."""
    lot = on.lot_size
    await desk.traded(on, 200.0)
    about: dict[str, Any] = {"quantity": lot, "stop_loss": Decimal(150)}
    intents = {name: await desk.signal(f"{name}-1", name, on, "BUY", **about) for name in ("mirror", "dry", "asleep")}
    assert await desk.refusal(intents["asleep"]) == "switch"
    await desk.traded(on, 200.05)
    for name, mode in (("mirror", SHADOW), ("dry", PAPER)):
        gtt = await desk.gtt(intents[name], entered=lot)
        stop = gtt.rule(Leg.STOPLOSS)
        assert (gtt.engine, gtt.mode) == (Engine.OURS, mode)
        assert stop is not None
        assert stop.status is RuleStatus.PENDING
        await desk.held(mode, on, lot)
    await desk.here.trade(on.key, 140.0)  # through the stop
    await desk.here.trade(on.key, 140.05)
    for mode in (SHADOW, PAPER):
        await desk.held(mode, on, 0)
    assert (LIVE.value, on.key, "I") not in desk.here.told.positions


async def _halted(desk: Desk, on: Instrument) -> None:
    """What anybody writes under `halt` counts within a second."""
    await desk.traded(on, 300.0)
    await desk.here.bus.redis.set(streams.HALT, "why")
    began_s = clock.monotonic_s()

    async def told() -> bool:
        accounts = await desk.here.bus.redis.hgetall(streams.BOOK_ACCOUNTS)
        return all(orjson.loads(body)["halted"] == "why" for body in accounts.values())

    await until(desk.here, told, "halted")
    assert clock.monotonic_s() - began_s < 3  # a second, on a machine with nothing else to do
    about: dict[str, Any] = {"quantity": on.lot_size, "stop_loss": Decimal(290)}
    assert await desk.refusal(await desk.signal("late", "real", on, "BUY", **about)) == "halt"
    await desk.here.bus.redis.delete(streams.HALT)


async def test_what_nobody_follows_is_followed_once_a_signal_names_it_and_stays_so(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    (home / "strategies.toml").write_text(STRATEGIES)
    async with stack(redis_url, postgres_url, home, teji_instruments=("NIFTY",), instruments=60) as here:
        desk = Desk(here)
        on = next(each for each in tradeable(here.market) if each.underlying_symbol != "NIFTY")
        assert here.scene is not None
        assert here.scene.quote(on.key) is None
        about: dict[str, Any] = {"quantity": on.lot_size, "stop_loss": Decimal("0.05")}
        intent = await desk.signal("first", "dry", on, "BUY", **about)
        await desk.gtt(intent, entered=on.lot_size)
        await desk.held(PAPER, on, on.lot_size)

        await here.send("feed.unsubscribe", {"kind": "feed.unsubscribe", "instruments": [on.key]})

        async def again() -> bool:
            entries = await here.bus.redis.xrevrange(streams.COMMANDS, count=1)
            return bool(entries[0][1][b"by"] == b"gtt")

        await until(here, again, "a subscription by the order worker")
        await here.told.until(
            lambda: any("taken out of the feed" in each for each in here.told.alerts), lambda: "an alert"
        )
        await desk.traded(on, 33.0)
