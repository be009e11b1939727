"""Compiles the kernels into numba's cache, so that no worker's first start has to wait for it (`make warm`)."""

import importlib
import sys
import time
from typing import Final

#: Modules whose `warm()` compiles every kernel they have.
KERNELS: Final = ("proto.decode", "ingest.merge", "aggregator.bars")


def main() -> None:
    print("Compiling the kernels ...", flush=True)
    start = time.monotonic()
    for name in KERNELS:
        importlib.import_module(name).warm()
    print(f"Compiled in {time.monotonic() - start:.1f} s.", file=sys.stderr)


if __name__ == "__main__":
    main()
