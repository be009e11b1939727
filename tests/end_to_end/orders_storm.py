"""What a storm is made of: people and programs who want anything at any time, a venue and machines that fail."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from random import Random
from typing import Any, Final

from bus import clock
from sim.faults import ENDED, FaultRequest
from tests.end_to_end.orders_town import Town

_CALLS_MAX: Final = 12  # at once
_CALM_S: Final = (1.5, 5.0)  # between two machines that fail: a worker has to live as well
_GTTS: Final = ("ours", "venue", "auto")


class Storm:
    def __init__(self, town: Town, rng: Random, keys: tuple[str, ...], pace_s: float) -> None:
        self.town = town
        self.rng = rng
        self.keys = keys
        self.pace_s = pace_s  # between two wishes, on average
        self.answers: Counter[str] = Counter()
        self.struck: Counter[str] = Counter()
        self._calls: set[asyncio.Task[None]] = set()
        self._signals = 0

    async def rage(self, seconds: float) -> None:
        deadline_s = clock.monotonic_s() + seconds
        await asyncio.gather(self._wish(deadline_s), self._fail(deadline_s), self._break(deadline_s))
        await self._settle()

    async def _settle(self) -> None:
        """Nothing fails any more; whoever has asked gets an answer."""
        self.town.exchange.order_fault(FaultRequest.model_validate(ENDED))
        self.town.log_in()
        while self._calls:
            done, _ = await asyncio.wait(self._calls, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()

    # Wishes

    async def _wish(self, deadline_s: float) -> None:
        wishes: list[tuple[int, Callable[[], Coroutine[Any, Any, None]]]] = [
            (10, self._place), (5, self._modify), (5, self._cancel), (4, self._gtt), (2, self._modify_gtt),
            (2, self._cancel_gtt), (4, self._signal), (1, self._cancel_all), (2, self._exit), (1, self._halt),
        ]  # fmt: skip
        weights, makes = [weight for weight, _ in wishes], [make for _, make in wishes]
        while clock.monotonic_s() < deadline_s:
            await asyncio.sleep(self.rng.expovariate(1 / self.pace_s))
            if len(self._calls) < _CALLS_MAX:
                (make,) = self.rng.choices(makes, weights)
                task = asyncio.create_task(make())
                self._calls.add(task)
                task.add_done_callback(self._answered)

    def _answered(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and task.exception() is None:
            self._calls.discard(task)  # an error stays until somebody looks

    async def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> None:
        told = await self.town.call(method, path, body)
        self.answers[f"{path} {told.status_code}"] += 1

    def _terms(self) -> tuple[str, int]:
        key = self.rng.choice(self.keys)
        lot = self.town.exchange.trading.instrument(key).lot_size
        return key, lot * self.rng.randint(1, 3)

    async def _place(self) -> None:
        key, quantity = self._terms()
        side = self.rng.choice(("BUY", "SELL"))
        body = {"instrument_token": key, "transaction_type": side, "quantity": quantity, "order_type": "MARKET"}
        if self.rng.random() < 0.6:
            price = self.town.price(key, self.rng.uniform(-1.0, 1.0))
            body |= {"order_type": "LIMIT", "price": str(price)}
        await self._call("POST", "orders/place", body)

    async def _some(self, path: str, **wanted: Any) -> dict[str, Any] | None:
        rows = await self.town.get(path)
        found = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
        return self.rng.choice(found) if found else None

    async def _modify(self) -> None:
        if order := await self._some("orders?live=true"):
            price = self.town.price(order["instrument"], self.rng.uniform(-0.5, 0.5))
            await self._call("PUT", "orders/modify", {"order_id": order["order_id"], "price": str(price)})

    async def _cancel(self) -> None:
        if order := await self._some("orders?live=true"):
            await self._call("DELETE", f"orders/cancel?order_id={order['order_id']}")

    def _rules(self, key: str, side: str, *, is_open: bool = False) -> list[dict[str, Any]]:
        sign = 1 if side == "BUY" else -1
        away = self.rng.uniform(0.0, 0.1)
        trigger = "IMMEDIATE" if is_open else self.rng.choice(("ABOVE", "BELOW", "IMMEDIATE"))
        at = {"ABOVE": away, "BELOW": -away, "IMMEDIATE": 0.0}[trigger]
        legs = [("ENTRY", trigger, at)]
        if self.rng.random() < 0.8:
            legs.append(("TARGET", "IMMEDIATE", at + sign * self.rng.uniform(0.05, 0.4)))
        if self.rng.random() < 0.8:
            legs.append(("STOPLOSS", "IMMEDIATE", at - sign * self.rng.uniform(0.05, 0.4)))
        return [
            {"strategy": leg, "trigger_type": kind, "trigger_price": str(self.town.price(key, percent))}
            for leg, kind, percent in legs
        ]

    async def _gtt(self) -> None:
        key, quantity = self._terms()
        side = self.rng.choice(("BUY", "SELL"))
        rules = self._rules(key, side)
        body = {
            "type": "SINGLE" if len(rules) == 1 else "MULTIPLE", "quantity": quantity, "product": "I", "rules": rules,
            "instrument_token": key, "transaction_type": side, "engine": self.rng.choice(_GTTS),
        }  # fmt: skip
        await self._call("POST", "gtt/place", body)

    async def _modify_gtt(self) -> None:
        if gtt := await self._some("gtt", live=True):
            is_open = gtt["rules"][0]["status"] != "SCHEDULED"
            rules = self._rules(gtt["instrument"], gtt["transaction_type"], is_open=is_open)
            kind = "SINGLE" if len(rules) == 1 else "MULTIPLE"
            body = {"gtt_order_id": gtt["gtt_order_id"], "type": kind, "quantity": gtt["quantity"], "rules": rules}
            await self._call("PUT", "gtt/modify", body)

    async def _cancel_gtt(self) -> None:
        if gtt := await self._some("gtt", live=True):
            await self._call("DELETE", f"gtt/cancel?gtt_order_id={gtt['gtt_order_id']}")

    async def _signal(self) -> None:
        key, _ = self._terms()
        self._signals += 1
        body: dict[str, Any] = {"id": f"ema-{self._signals}", "strategy": "ema", "instrument": key}
        body |= {"ts": clock.now_ms(), "side": self.rng.choice(("BUY", "SELL", "EXIT"))}
        if body["side"] != "EXIT" and self.rng.random() < 0.7:
            away = -0.3 if body["side"] == "BUY" else 0.3
            body |= {"stop_loss": str(self.town.price(key, away)), "take_profit": str(self.town.price(key, -2 * away))}
        await self._call("POST", "signals", body)

    async def _cancel_all(self) -> None:
        await self._call("DELETE", "orders")

    async def _exit(self) -> None:
        await self._call("POST", "positions/exit", {})

    async def _halt(self) -> None:
        await self._call("POST", "trading/halt", {"why": "a storm"})
        await asyncio.sleep(self.rng.uniform(0.2, 1.0))
        await self._call("POST", "trading/resume")

    # The venue fails

    async def _fail(self, deadline_s: float) -> None:
        while clock.monotonic_s() < deadline_s:
            await asyncio.sleep(self.rng.uniform(0.1, 0.8))
            fault, lasts_s = self._fault()
            self.struck[next(iter(fault.model_fields_set))] += 1
            self.town.exchange.order_fault(fault)
            if lasts_s:
                await asyncio.sleep(lasts_s)
                ends = {name: ENDED[name] for name in fault.model_fields_set if name in ENDED}
                self.town.exchange.order_fault(FaultRequest.model_validate(ends))
            if fault.expire_tokens:
                await asyncio.sleep(self.rng.uniform(0.1, 1.0))
                self.town.log_in()

    def _fault(self) -> tuple[FaultRequest, float]:
        """One, and how long it lasts where it does not end by itself."""
        rng = self.rng
        few = rng.randint(1, 2)
        return rng.choice(
            [
                (FaultRequest(order_500=few), 0.0),
                (FaultRequest(order_lost=few), 0.0),
                (FaultRequest(order_unheard=few), 0.0),
                (FaultRequest(order_reject=few), 0.0),
                (FaultRequest(refuse_orders=rng.choice((401, 403, 429, 503)), times=few), 0.0),
                (FaultRequest(order_slow_ms=rng.choice((300, 1_500))), rng.uniform(0.2, 1.0)),
                (FaultRequest(order_late_ms=rng.choice((300, 1_500))), rng.uniform(0.2, 1.0)),
                (FaultRequest(partial_fills=1), rng.uniform(0.5, 2.0)),
                (FaultRequest(no_fills=True), rng.uniform(0.2, 1.0)),
                (FaultRequest(updates_lost=0.4), rng.uniform(0.5, 2.0)),
                (FaultRequest(updates_twice=0.5), rng.uniform(0.5, 2.0)),
                (FaultRequest(updates_reordered=0.5), rng.uniform(0.5, 2.0)),
                (FaultRequest(updates_late_ms=rng.choice((200, 2_000))), rng.uniform(0.5, 2.0)),
                (FaultRequest(updates_down=True), rng.uniform(0.3, 2.0)),
                (FaultRequest(rest_down=True), rng.uniform(0.3, 1.5)),
                (FaultRequest(offline=True), rng.uniform(0.3, 1.5)),
                (FaultRequest(expire_tokens=True), 0.0),
            ]
        )

    # The machines fail

    async def _break(self, deadline_s: float) -> None:
        """In turn, so that a short storm has them all."""
        breaks: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("kill gtt", self._kill("gtt")),
            ("freeze postgres", lambda: self.town.freeze_postgres(self.rng.uniform(0.3, 1.5))),
            ("restart redis", lambda: self.town.restart_redis(self.rng.uniform(0.1, 0.5))),
            ("kill gateway", self._kill("gateway")),
            ("kill gtt", self._kill("gtt")),
            ("kill ingest", self._kill("ingest")),
        ]
        while True:
            for name, strike in breaks:
                await asyncio.sleep(self.rng.uniform(*_CALM_S))
                if clock.monotonic_s() >= deadline_s:
                    return
                self.struck[name] += 1
                await strike()
            self.rng.shuffle(breaks)

    def _kill(self, name: str) -> Callable[[], Awaitable[None]]:
        async def strike() -> None:
            await asyncio.to_thread(self.town.running[name].kill)

        return strike


async def flat(town: Town) -> None:
    """Nothing works, nothing is held: what a storm leaves behind is cleared away."""
    await town.call("POST", "trading/resume")

    async def is_flat() -> bool:
        live = await town.get("orders?live=true&mode=live")
        gtts = [gtt for gtt in await town.get("gtt") if gtt["live"]]
        held = [position for position in await town.get("positions") if position["quantity"]]
        if live or gtts:
            await town.call("DELETE", "orders")
        elif held:
            await town.call("POST", "positions/exit", {})
        else:
            return True
        await asyncio.sleep(0.3)
        return False

    with contextlib.suppress(KeyError):
        await town.until(is_flat, "nothing works and nothing is held", 60)
