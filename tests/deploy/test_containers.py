"""The container files are held against the code they start: no engine is needed for that."""

import http.server
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from bus.settings import Settings
from sim.settings import SimSettings
from teji import simulated
from teji.modules import WORKERS
from tests.deploy.compose_schema import SCHEMA

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "teji"}
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()

#: Names that belong to Docker Compose and to this file, not to Teji.
OF_COMPOSE = {"TEJI_ENV_FILE", "COMPOSE_PROFILES"}
OF_IMAGE = {"PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "NUMBA_CPU_NAME", "NUMBA_CACHE_DIR"}


def names_in(path: Path) -> set[str]:
    """Variables that an env file sets, also those it shows as a comment."""
    return set(re.findall(r"^#?([A-Z][A-Z0-9_]*)=", path.read_text(), re.MULTILINE))


def is_setting(name: str) -> bool:
    return name.lower() in Settings.model_fields


def test_the_compose_file_keeps_to_the_format() -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(COMPOSE)


@pytest.mark.parametrize("change", [{"comand": ["x"]}, {"ports": [8000]}, {"environment": {"TEJI_PORT": 8000}}])
def test_the_format_notices_a_slip(change: dict[str, Any]) -> None:
    broken = COMPOSE | {"services": {"redis": SERVICES["redis"] | change}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(broken)


def test_every_worker_has_a_service_that_runs_it() -> None:
    commands = {tuple(service["command"]) for service in OURS.values() if "entrypoint" not in service}
    assert commands - {tuple(SERVICES["sim"]["command"])} == {("run", name) for name in WORKERS}


def test_the_exchanges_options_are_ones_it_has() -> None:
    options = SERVICES["sim"]["command"][1:]
    known = simulated.arguments(SimSettings(host="0.0.0.0", port=8100))
    assert {option for option in options if option.startswith("--")} <= set(known)


def test_an_entrypoint_is_a_module_of_ours() -> None:
    modules = [service["entrypoint"][-1] for service in OURS.values() if "entrypoint" in service]
    assert modules == ["teji.demo"]
    assert all((ROOT / f"{module.replace('.', '/')}.py").exists() for module in modules)


def test_every_variable_is_a_setting() -> None:
    given = {name for service in OURS.values() for name in service.get("environment", {})}
    given |= set(re.findall(r"^(?:ENV| {4}) ?([A-Z_]+)=", DOCKERFILE, re.MULTILINE)) - OF_IMAGE
    given |= (names_in(ROOT / ".env.example") | names_in(ROOT / "deploy/demo.env")) - OF_COMPOSE
    used = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text())) - OF_COMPOSE
    assert {name for name in given | used if not is_setting(name)} == set()


def test_services_wait_for_services_that_report_their_health() -> None:
    for service in SERVICES.values():
        for other in service.get("depends_on", {}):
            assert SERVICES[other].get("healthcheck", {}).get("test"), other


def test_a_demo_service_is_needed_by_nothing_outside_the_demo() -> None:
    demo = {name for name, service in SERVICES.items() if service.get("profiles") == ["demo"]}
    assert demo == {"sim", "login"}
    assert all(
        not demo & service.get("depends_on", {}).keys() for name, service in SERVICES.items() if name not in demo
    )


def test_only_the_page_is_published_and_on_loopback_only() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"gateway": ["127.0.0.1:${TEJI_PORT:-8000}:8000"]}


def test_every_volume_is_declared_and_used() -> None:
    used = {volume.partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert used == COMPOSE["volumes"].keys()


def test_the_demo_logs_in_with_the_keys_of_the_exchange() -> None:
    given = dict(line.split("=", 1) for line in (ROOT / "deploy/demo.env").read_text().splitlines() if "=" in line)
    exchange = SimSettings()
    assert (given["UPSTOX_API_KEY"], given["UPSTOX_API_SECRET"]) == (exchange.api_key, exchange.api_secret)
    assert Path(given["TEJI_ENV_FILE"]) == Path("deploy/demo.env")


def test_every_copied_file_exists_and_gets_into_the_build() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(\S+) ", DOCKERFILE, re.MULTILINE)
    assert all((ROOT / name).exists() for name in allowed)
    assert set(copied) - {"."} <= allowed


def test_the_image_holds_every_package_of_the_wheel() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert packages <= allowed


def test_the_image_runs_as_nobody_special_and_checks_its_health() -> None:
    last_stage = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER teji$", last_stage, re.MULTILINE)
    assert "HEALTHCHECK" in last_stage
    assert "--require-hashes" in (ROOT / ".ci/environment").read_text()


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(int(self.path[1:]))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (404, 0), (503, 1)])
def test_health_is_an_answer_that_is_not_an_error_of_the_server(port: int, status: int, code: int) -> None:
    command = [sys.executable, str(ROOT / "deploy/healthy.py"), str(port), f"/{status}"]
    assert subprocess.run(command, check=False).returncode == code


def test_nobody_there_is_not_healthy() -> None:
    assert subprocess.run([sys.executable, str(ROOT / "deploy/healthy.py"), "1", "/"], check=False).returncode == 1


def _has_compose() -> bool:
    docker = shutil.which("docker")
    return docker is not None and subprocess.run([docker, "compose", "version"], capture_output=True).returncode == 0


@pytest.mark.skipif(not _has_compose(), reason="no docker compose here")
@pytest.mark.parametrize("arguments", [[], ["--env-file", "deploy/demo.env", "--profile", "demo"]])
def test_docker_compose_itself_accepts_the_file(arguments: list[str]) -> None:
    answer = subprocess.run(
        ["docker", "compose", *arguments, "config", "-q"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (answer.returncode, answer.stderr) == (0, "")
