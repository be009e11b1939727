"""Ingest as it is, without the venue's and the demo's caps on instruments: for `bench.scale`, whose venue has none."""

import sys

from brokers.upstox import limits
from bus.life import main
from ingest import names
from ingest.shard import NAME
from ingest.worker import run

if __name__ == "__main__":
    vars(limits)["ALONE"] = dict.fromkeys(limits.ALONE, 1_000_000)
    vars(names)["_DEMO_MAX"] = 1_000_000
    sys.exit(main(NAME, run))
