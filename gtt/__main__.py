"""`python -m gtt`"""

import sys

from bus.life import main
from gtt.worker import NAME, run

if __name__ == "__main__":
    sys.exit(main(NAME, run))
