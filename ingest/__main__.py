"""`python -m ingest`"""

import sys

from bus.life import main
from ingest.shard import NAME
from ingest.worker import run

if __name__ == "__main__":
    sys.exit(main(NAME, run))
