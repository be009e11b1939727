"""`python -m aggregator`"""

import sys

from aggregator.worker import NAME, run
from bus.life import main

if __name__ == "__main__":
    sys.exit(main(NAME, run))
