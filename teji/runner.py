"""Runs one of Teji's modules as a process. Started as a file, by `modules.command`, never imported.

Under a supervisor, standard input is a pipe whose other end the supervisor holds: when it reads as closed the
supervisor is gone, however it went, and this process asks itself to stop.
"""

import os
import runpy
import signal
import sys
import threading
from pathlib import Path


def _end_with_the_supervisor() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    root = str(Path(__file__).resolve().parents[1])
    if root not in sys.path:  # a checkout that is not installed
        sys.path.append(root)
    if os.environ.get("TEJI_SUPERVISED"):
        threading.Thread(target=_end_with_the_supervisor, daemon=True, name="supervisor").start()
    name = sys.argv[1]
    sys.argv = [name, *sys.argv[2:]]
    runpy.run_module(name, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
