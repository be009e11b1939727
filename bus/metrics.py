"""What every worker tells Prometheus at its `/metrics`. Names start with `teji_`; labels never hold an instrument."""

import contextlib
from collections.abc import Iterator

from prometheus_client import Counter, Gauge, Histogram, start_http_server

from schemas.errors import Misconfigured

_HOPS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)

READ_ENTRIES = Counter("teji_read_entries_total", "Stream entries read", ["group"])
BATCH_ENTRIES = Histogram("teji_batch_entries", "Entries per read that returned any", ["group"], buckets=_SIZES)
COMMITS = Counter("teji_commits_total", "Commits of outputs, state and acknowledgements", ["group"])
WRITTEN_ENTRIES = Counter("teji_written_entries_total", "Stream entries written", ["stream"])
DEAD_ENTRIES = Counter("teji_dead_entries_total", "Inputs set aside because they can never succeed", ["stream"])
MISSED_GAPS = Counter("teji_missed_gaps_total", "Times that entries were trimmed before they were read", ["stream"])
TICKS = Counter("teji_ticks_total", "Tick records", ["worker"])
FRAMES = Counter("teji_feed_frames_total", "Frames received", ["kind"])
FRAME_BYTES = Counter("teji_feed_bytes_total", "Bytes of frames received")
DROPPED_FRAMES = Counter("teji_feed_dropped_frames_total", "Frames for which the buffer had no room")
FEED_DELAY_S = Histogram("teji_feed_delay_seconds", "Receive time minus the venue's own stamp", buckets=_HOPS_S)
FEED_ENDS = Counter("teji_feed_ends_total", "Feed connections that ended or failed, by cause", ["cause"])
FEED_CONNECTIONS = Gauge("teji_feed_connections", "Connections to the venue, by state", ["state"])
FEED_INSTRUMENTS = Gauge("teji_feed_instruments", "Instruments of the feed: desired, seen, never_seen...", ["what"])
FEED_ASKED_AGAIN = Counter("teji_feed_asked_again_total", "Instruments asked for again, having sent nothing")
FEED_MOVED = Counter("teji_feed_moved_total", "Instruments that went to another connection, theirs being dead")
FEED_OVERTAKEN = Counter("teji_feed_overtaken_total", "Instruments of which a state came after a newer one")
BUFFER_BYTES = Gauge("teji_buffer_bytes", "Ticks waiting to be published", ["shard"])
BACKFILL_WAITING = Gauge("teji_backfill_waiting", "Instruments that wait for the venue's history", ["of"])
BACKFILL_CALLS = Counter("teji_backfill_calls_total", "Calls for candles, by how they ended", ["result"])
BARS = Counter("teji_bars_total", "Bars published", ["kind"])  # new or revised
CHAINS = Counter("teji_chains_total", "Option chains published", ["kind"])  # first or revised
LATE_PANELS = Counter("teji_late_panels_total", "Panels that came after their minute's chains were over for good")
OWN_GREEKS = Counter("teji_own_greeks_total", "Options whose bars have left, by the flag of their own Greeks", ["flag"])
GREEKS_COMPARED = Gauge("teji_greeks_compared", "Options of the last minute with own and venue's Greeks", ["shard"])
GREEKS_DRIFT = Gauge(
    "teji_greeks_drift", "Distance of own from venue's, last minute; iv is a fraction", ["shard", "value", "stat"]
)
LAG_MS = Gauge("teji_stream_lag_ms", "Age of what a group has yet to read, 0 when caught up", ["stream", "group"])
PENDING = Gauge("teji_stream_pending", "Entries delivered and not yet committed", ["stream", "group"])
HOP_S = Histogram("teji_hop_seconds", "Time from an entry's receive stamp to this hop", ["hop"], buckets=_HOPS_S)
TAPE_FRAMES = Counter("teji_tape_frames_total", "Frames recorded on the tape")
TAPE_BYTES = Counter("teji_tape_bytes_total", "Compressed bytes of the tape")
TAPE_WAITING_BYTES = Gauge("teji_tape_waiting_bytes", "Recorded and not yet written to the disk")
TAPE_GAPS = Counter("teji_tape_gaps_total", "Times that the disk was too slow or full for the tape")
TAPE_LOST_FRAMES = Counter("teji_tape_lost_frames_total", "Frames that are not on the tape because of the disk")
SHARDS_HELD = Gauge("teji_shards_held", "Shards this process owns", ["worker"])
SHARD_SINCE_S = Gauge(
    "teji_shard_held_since_seconds", "Since when this process owns a shard, Unix time", ["worker", "shard"]
)
LEASE_CHANGES = Counter(
    "teji_lease_changes_total", "Leases taken, and how they ended: returned, lost, interrupted", ["worker", "what"]
)
ORDERS = Gauge("teji_orders", "Orders of the day, by account and status", ["account", "status"])
ORDER_CALLS = Counter("teji_order_calls_total", "Calls of the venue, by how they ended", ["account", "what", "result"])
ORDER_CALL_S = Histogram("teji_order_call_seconds", "Time of a call of the venue", ["account", "what"], buckets=_HOPS_S)
ORDER_REFUSALS = Counter("teji_order_refusals_total", "Intents that our own checks turned down", ["account", "rule"])
ORDER_BUDGET = Gauge("teji_order_budget_remaining", "Order writes left, by window", ["account", "seconds"])
JOURNAL_S = Histogram("teji_journal_seconds", "Time until facts were in the journal", buckets=_HOPS_S)
TICK_TO_REQUEST_S = Histogram(
    "teji_tick_to_request_seconds", "From the receipt of a tick to the order request that it triggered", buckets=_HOPS_S
)
LIVE_GTTS = Gauge("teji_live_gtts", "GTTs of which something may still happen", ["engine"])
COLD_ROWS = Counter("teji_cold_rows_total", "Rows that Postgres took as new or newer", ["table"])
SSE_CLIENTS = Gauge("teji_sse_clients", "Open SSE connections", ["feed"])
SSE_LET_GO = Counter("teji_sse_let_go_total", "Times that an SSE client did not keep up", ["feed"])


@contextlib.contextmanager
def served(host: str, port: int) -> Iterator[int]:
    """Serve `/metrics` in a thread of its own, at a free port for 0. Yields the port."""
    try:
        server, thread = start_http_server(port, host)
    except OSError as error:
        raise Misconfigured(
            f"The metrics port {host}:{port} cannot be used ({error.strerror}): set TEJI_METRICS_PORT to another or 0."
        ) from None
    try:
        yield int(server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
