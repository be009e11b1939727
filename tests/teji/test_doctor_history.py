import json

import pytest

from bus.connection import Bus
from schemas import streams
from teji.doctor import workers
from teji.doctor.workers import Seen


@pytest.mark.parametrize(
    ("waiting", "said"),
    [({}, "nothing that was missed"), ({0: 100, 1: 20}, "120 instruments still wait for minutes"), ({0: 0}, "nothing")],
    ids=["unknown", "some", "none"],
)
def test_doctor_says_how_much_history_is_still_to_come(waiting: dict[int, int], said: str) -> None:
    found = workers.judged(Seen(alive={"ingest": 1}, history_waiting=waiting), 2)
    (history,) = (each for each in found if each.name == "history")
    assert said in history.detail


async def test_the_last_word_of_each_shards_feed_counts(redis_url: str) -> None:
    async with Bus.open(redis_url) as bus:
        for shard, waiting in ((0, 500), (1, 7), (0, 20)):
            data = json.dumps({"kind": "feed", "data": {"shard": shard, "history_waiting": waiting}})
            await bus.redis.xadd(streams.EVENTS, {"kind": "feed", "data": data})
        await bus.redis.xadd(streams.EVENTS, {"kind": "print", "data": "{}"})
        assert (await workers.look(bus, 2)).history_waiting == {0: 20, 1: 7}
