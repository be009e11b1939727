"""Ports and addresses of this machine: whether a port can be had is asked before anything starts."""

import contextlib
import errno
import socket

from schemas.errors import Misconfigured


def free_port(host: str) -> int:
    with _bound(host, 0) as one:
        return int(one.getsockname()[1])


def taken(host: str, port: int) -> bool:
    """Raises OSError where the port cannot be had for another reason than somebody else's using it."""
    try:
        _bound(host, port).close()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return True
    return False


def or_free(host: str, port: int) -> int:
    """This port, or where that is taken (or 0) any free one."""
    return free_port(host) if port == 0 or taken(host, port) else port


def demanded(host: str, port: int) -> int:
    """This port, a free one for 0, or one sentence that says what to do."""
    try:
        if port == 0:
            return free_port(host)
        if not taken(host, port):
            return port
    except OSError as error:
        raise Misconfigured(
            f"Cannot listen on {host}:{port} ({error.strerror}): choose another with TEJI_HOST and --port."
        ) from None
    free = next((near for near in range(port + 1, min(port + 100, 65536)) if not taken(host, near)), 0)
    raise Misconfigured(f"Port {port} is taken by another program: stop that, or choose another with --port {free}.")


def reachable(host: str) -> str:
    """What a browser on this machine opens for a server that is bound to `host`."""
    local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"[{local}]" if ":" in local else local


def _bound(host: str, port: int) -> socket.socket:
    with contextlib.ExitStack() as stack:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        one = stack.enter_context(socket.socket(family))
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(address)
        one.listen()  # on Linux two may be bound to a port, only one listens
        stack.pop_all()
        return one
