"""Compiles the kernels into numba's cache, so that no worker's first start has to wait for it (`make warm`)."""

import importlib
import os
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Final

#: Modules whose `warm()` compiles every kernel they have.
KERNELS: Final = ("proto.decode", "aggregator.bars", "market.black76", "ingest.merge", "gtt.engine.board")


def main() -> None:
    print("Compiling the kernels ...", flush=True)
    start_s = time.monotonic()
    with ProcessPoolExecutor(max_workers=min(len(KERNELS), os.cpu_count() or 1)) as pool:
        list(pool.map(compile_kernels, KERNELS))
    print(f"Compiled in {time.monotonic() - start_s:.0f} s.")


def compile_kernels(module: str) -> None:
    importlib.import_module(module).warm()


if __name__ == "__main__":
    main()
