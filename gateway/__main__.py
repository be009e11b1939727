"""`python -m gateway` runs the gateway as a process of its own."""

import sys

from bus import life
from gateway import worker

if __name__ == "__main__":
    sys.exit(life.main("gateway", worker.run))
