import socket

import pytest

from schemas.errors import Misconfigured
from teji import ports

HOST = "127.0.0.1"


def test_a_free_port_is_granted_as_it_is() -> None:
    port = ports.free_port(HOST)
    assert ports.demanded(HOST, port) == port
    assert ports.or_free(HOST, port) == port


def test_port_zero_becomes_a_real_one() -> None:
    assert ports.demanded(HOST, 0) > 0
    assert ports.or_free(HOST, 0) > 0


def test_a_taken_port_is_named_with_the_way_out() -> None:
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(Misconfigured, match=rf"Port {port} is taken.*--port \d+"):
            ports.demanded(HOST, port)
        assert ports.or_free(HOST, port) != port


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_that_is_not_ours_is_one_sentence(host: str) -> None:
    with pytest.raises(Misconfigured, match="Cannot listen on"):
        ports.demanded(host, 8000)


@pytest.mark.parametrize(
    ("bound", "opened"),
    [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), ("box", "box")],
)
def test_a_browser_opens_an_address_that_exists(bound: str, opened: str) -> None:
    assert ports.reachable(bound) == opened
