"""Every Redis key and stream name, and how long each stream is kept. The one place that spells them.

`{k}` is a shard in literal braces, so that on a Redis Cluster all keys of a shard share one slot and a commit
over them stays one transaction.
"""

from typing import Final

COMMANDS: Final = "commands"
EVENTS: Final = "events"
ORDERS: Final = "orders"
SIGNALS: Final = "signals"
HALT: Final = "halt"

#: Hashes of the order worker, in the slot of its lease: id -> JSON, as things stand now. What is finished stays until
#: the day ends.
BOOK_ORDERS: Final = "book:orders:{0}"  # schemas.orders.Order
BOOK_GTTS: Final = "book:gtts:{0}"  # schemas.gtt.Gtt
BOOK_POSITIONS: Final = "book:positions:{0}"  # `mode|instrument|product` -> schemas.orders.Position
BOOK_FILLS: Final = "book:fills:{0}"  # schemas.orders.Fill
BOOK_ACCOUNTS: Final = "book:accounts:{0}"  # mode -> schemas.accounts.Account
BOOK_STRATEGIES: Final = "book:strategies:{0}"  # name -> schemas.accounts.StrategyState

_MINUTE_MS: Final = 60_000
_DAY_MS: Final = 24 * 60 * _MINUTE_MS

#: Kept by time, in milliseconds, by the family of the stream (its name without the shard).
RETENTION_MS: Final[dict[str, int]] = {
    "ticks": 15 * _MINUTE_MS,
    "candles": 16 * 60 * _MINUTE_MS,  # one session; the longest is a commodity's, 09:00 to 23:55
    "chain": 16 * 60 * _MINUTE_MS,
    "intervals": 16 * 60 * _MINUTE_MS,
    "panel": 15 * _MINUTE_MS,
    SIGNALS: 7 * _DAY_MS,
    COMMANDS: 7 * _DAY_MS,
    ORDERS: 7 * _DAY_MS,
    EVENTS: 7 * _DAY_MS,
    "dead": 30 * _DAY_MS,
}

#: Families that a Redis does not write to its append-only file, nor to its replicas: they are the mass of what it gets,
#: are kept for minutes, and their writer remembers the newest of them (docs/decisions/0009).
NOT_IN_THE_LOG: Final = frozenset({"ticks"})

_FNV_OFFSET: Final = 0xCBF29CE484222325
_FNV_PRIME: Final = 0x100000001B3
_U64: Final = (1 << 64) - 1


def instrument_id(key: str) -> int:
    """The 64-bit FNV-1a hash of an instrument key, as a signed integer: its id in tick records and in Postgres.

    A hash instead of a counter: nobody has to hand out numbers, a flushed Redis cannot re-number what other
    processes remember, and the wire decoder computes it on the fly. Ten thousand keys collide with probability
    3e-12; the registry refuses such a key all the same.
    """
    value = _FNV_OFFSET
    for byte in key.encode():
        value = ((value ^ byte) * _FNV_PRIME) & _U64
    return value - (1 << 64) if value >> 63 else value


def shard_of(key: str, shards: int) -> int:
    """Which shard an instrument lives in. Stable across processes, restarts and releases."""
    return (instrument_id(key) & _U64) % shards


def ticks(shard: int) -> str:
    return f"ticks:{{{shard}}}"


def candles(shard: int) -> str:
    return f"candles:{{{shard}}}"


def chain(shard: int) -> str:
    return f"chain:{{{shard}}}"


def intervals(shard: int) -> str:
    """Bars of more than one minute: entries have `interval` beside the fields of `candles:{k}`."""
    return f"intervals:{{{shard}}}"


def panel(shard: int) -> str:
    """The minute's panel of the underlyings of this shard, see schemas.panel."""
    return f"panel:{{{shard}}}"


def terms(shard: int) -> str:
    """Hash: instrument key -> JSON of schemas.terms.Terms."""
    return f"terms:{{{shard}}}"


def quotes(shard: int) -> str:
    return f"quotes:{{{shard}}}"


def instruments(shard: int) -> str:
    """Hash: instrument id -> instrument key, the registry of what a shard's tick records speak of."""
    return f"instruments:{{{shard}}}"


def missing(shard: int) -> str:
    """Hash: the instruments that the feed says nothing about, see schemas.events.Missing."""
    return f"missing:{{{shard}}}"


def state(worker: str, shard: int) -> str:
    return f"state:{worker}:{{{shard}}}"


def lease(worker: str, shard: int) -> str:
    return f"lease:{worker}:{{{shard}}}"


def fence(worker: str, shard: int) -> str:
    """Counter that only grows: the fencing token of the shard's next lease."""
    return f"fence:{worker}:{{{shard}}}"


def holder(worker: str, shard: int) -> str:
    """Hash: the process that took a shard last, and when. Stays when the lease has ended."""
    return f"holder:{worker}:{{{shard}}}"


def sequence(worker: str, shard: int) -> str:
    """The last publication of a worker that has no input stream to acknowledge (ingest): see bus.inbox.Published."""
    return f"sequence:{worker}:{{{shard}}}"


def trimmed(stream: str) -> str:
    """Highest entry id that trimming has deleted from a stream: how a reader notices what it missed."""
    return f"trimmed:{stream}" if "{" in stream else f"trimmed:{{{stream}}}"


def position(group: str, stream: str, state_key: str) -> str:
    """Id of the last entry that a consumer group has committed. The group itself only knows what it was given.

    It shares the slot of the state that it belongs to, wherever the stream is.
    """
    return f"position:{{{tag(state_key)}}}:{group}:{stream}"


def outside(stream: str, worker: str, shard: int) -> str:
    """Hash in the slot of a stream: what a fold of another slot has written there and may write again (a cluster)."""
    return f"outside:{{{tag(stream)}}}:{worker}:{shard}"


def tag(key: str) -> str:
    """The part of a key that decides its slot: what its first braces hold, or else all of it."""
    _, opened, rest = key.partition("{")
    held, closed, _ = rest.partition("}")
    return held if opened and closed and held else key


def members(worker: str) -> str:
    """Hash: the processes that share out a worker's shards, and how many each holds."""
    return f"members:{worker}"


def dead(stream: str) -> str:
    return f"dead:{stream}"


def worker(name: str, instance: str) -> str:
    """Heartbeat of a running process, expires by itself."""
    return f"worker:{name}:{instance}"


def family(stream: str) -> str:
    """`candles:{3}` -> `candles`, `dead:ticks:{0}` -> `dead`."""
    return stream.split(":", 1)[0]


def retention_ms(stream: str) -> int:
    return RETENTION_MS[family(stream)]
