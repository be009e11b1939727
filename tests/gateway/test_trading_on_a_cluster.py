"""The calls about trading on a Redis Cluster: keys of one commit share a slot, books are read where they are."""

import asyncio
from pathlib import Path

from bus.reader import Reader
from gateway.tasks import end
from schemas import streams
from schemas.events import Event, EventKind
from schemas.replies import Decision
from tests.bus.nodes import Nodes
from tests.conftest import settings_in
from tests.gateway.desk import an_order, put
from tests.gateway.house import House
from tests.gateway.test_orders import LIMIT
from tests.gateway.test_rest import API, open_house
from tests.gateway.test_trading import SIGNAL


async def answers(house: House) -> None:
    """Says yes to every command, once."""
    last, reader = "0-0", Reader(house.bus)
    while True:
        for read in await reader.read({streams.COMMANDS: last}, count=10, block_ms=50):
            for identity, fields in read.entries:
                last = identity.decode()
                data = Decision(command=fields[b"id"].decode(), ok=True, orders=(an_order("x"),)).model_dump(
                    mode="json"
                )
                event = Event(kind=EventKind.REPLY, ts=1, worker="gtt", message="done", data=data)
                await house.bus.redis.xadd(streams.EVENTS, {"kind": "reply", "data": event.model_dump_json()})


async def test_orders_halt_and_signals_work_and_happen_once(
    redis_cluster: Nodes, postgres_url: str, tmp_path: Path
) -> None:
    settings = settings_in(tmp_path / "home", redis_url=redis_cluster.url, database_url=postgres_url)
    async with open_house(settings) as house:
        worker = asyncio.create_task(answers(house))
        try:
            key = {"Idempotency-Key": "k"}
            placed = [await house.http.post(f"{API}/orders/place", json=LIMIT, headers=key) for _ in range(2)]
            assert [answer.status_code for answer in placed] == [200, 200]
            assert placed[0].content == placed[1].content
            assert await house.bus.redis.xlen(streams.COMMANDS) == 1
            assert (await house.http.post(f"{API}/trading/halt", headers=key)).status_code == 200
            assert (await house.http.post(f"{API}/trading/resume", headers=key)).json() == {"resumed": True}
            sent = [(await house.http.post(f"{API}/signals", json=SIGNAL)).json()["new"] for _ in range(2)]
            assert sent == [True, False]
        finally:
            await end([worker])
        order = an_order("x")
        await put(house, streams.BOOK_ORDERS, order.order_id, order.model_dump(mode="json"))
        assert [row["order_id"] for row in (await house.http.get(f"{API}/orders/")).json()] == [order.order_id]
        for path in ("gtt/", "positions", "funds", "risk", "strategies", "trading"):
            assert (await house.http.get(f"{API}/{path}")).status_code == 200, path
