from pathlib import Path

import pytest

from bus.embedded import Servers
from teji import redis_cli
from tests.teji.commands import teji


@pytest.mark.parametrize(
    ("servers", "arguments"),
    [
        (Servers("unix:///a b/redis.sock", "", "/a b/redis.sock"), ["-s", "/a b/redis.sock"]),
        (Servers("unix:///tmp/redis.sock", ""), ["-s", "/tmp/redis.sock"]),
        (Servers("redis://host:6380/1", ""), ["-u", "redis://host:6380/1"]),
    ],
)
def test_the_client_is_pointed_at_the_redis_in_use(servers: Servers, arguments: list[str]) -> None:
    assert redis_cli.command(servers)[1:] == arguments


def test_a_command_runs_on_the_embedded_redis_and_its_exit_code_is_ours(tmp_path: Path) -> None:
    assert teji(tmp_path, "redis", "SET", "a", "-1").stdout.strip() == "OK"
    assert teji(tmp_path, "redis", "GET", "a").stdout.strip() == "-1"  # it was kept from one start to the next
    assert teji(tmp_path, "redis", "--no-such-option").returncode == 1
