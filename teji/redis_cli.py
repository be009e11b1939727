"""`teji redis`: redis-cli, pointed at the Redis that this installation uses."""

import signal
import subprocess
from collections.abc import Sequence
from urllib.parse import urlsplit

from bus import embedded
from bus.embedded import Servers
from bus.settings import load
from schemas.errors import Misconfigured


def main(arguments: Sequence[str]) -> int:
    """Run it and return its exit code. Ctrl-C is its own business; the embedded Redis stays up meanwhile."""
    with embedded.servers(load(), postgres=False) as servers:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            return subprocess.call([*command(servers), *arguments], preexec_fn=_hear_ctrl_c)
        finally:
            signal.signal(signal.SIGINT, before)


def command(servers: Servers) -> list[str]:
    """The client of the embedded Redis is always at hand, and newer ones do not talk differently."""
    binary = str(embedded.redis_binary("redis-cli"))
    if servers.redis_socket:
        return [binary, "-s", servers.redis_socket]
    if servers.redis_url.startswith("unix://"):
        return [binary, "-s", urlsplit(servers.redis_url).path]
    if servers.redis_url.partition(":")[0] in ("redis+cluster", "rediss+cluster"):
        return [binary, "-c", "-u", servers.redis_url.replace("+cluster", "", 1).partition(",")[0]]
    if "+sentinel:" in servers.redis_url:
        raise Misconfigured("redis-cli does not ask sentinels: give it the server's own address with -u.")
    return [binary, "-u", servers.redis_url]


def _hear_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
