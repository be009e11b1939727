"""Logs: structured, both forms, and no secret in any of them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.log import masked, masked_text
from tests.bus.processes import ROOT

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI3VEVTVCJ9.q3tLwJ8S5Dk"

#: Everything that could let a secret out, in one process: names, texts, nesting, errors, the records of libraries.
TALK = """
import logging, sys, threading
from urllib.error import HTTPError
import structlog
from bus import log
from bus.settings import LogFormat
log.configure("ingest", LogFormat(sys.argv[1]), "INFO", ["S3CRET-of-the-settings"])
say = structlog.get_logger("x")
say.debug("not shown")
say.info("plain", shard=0, instrument="NSE_FO|61755")
say.info("named", token="S3CRET-1", api_key="S3CRET-2", Authorization="S3CRET-3", code="S3CRET-4", cookie="S3CRET-5")
say.info("nested", settings={"upstox": {"access_token": "S3CRET-6", "list": [{"password": "S3CRET-7"}]}, "ok": 1})
say.info("deep", a={"b": {"c": {"d": {"e": {"f": {"password": "S3CRET-8"}}}}}})
say.info("text", url="https://h/callback?code=S3CRET-9&state=1", dsn="postgresql://u:S3CRET-10@h/d")
say.info("redis://:S3CRET-11@h/0 and Bearer S3CRET-12 and " + sys.argv[2])
say.info("a dictionary", body=str({"client_secret": "S3CRET-13", "b": b"S3CRET-of-the-settings"}))
say.info("headers", headers=[("authorization", "Bearer S3CRET-14")])
try:
    try:
        raise ValueError("access_token=S3CRET-15&x=1")
    except ValueError as error:
        raise RuntimeError("password='S3CRET-16' at postgres://u:S3CRET-17@h") from error
except RuntimeError:
    say.exception("failed", token="S3CRET-18")
    logging.getLogger("lib").exception("lib failed with %s", "api_key=S3CRET-19")
logging.getLogger("lib").warning("GET https://h/token?code=%s HTTP/1.1", "S3CRET-20")
logging.getLogger("lib").info("not shown either")
thread = threading.Thread(target=lambda: (_ for _ in ()).throw(ValueError("client_secret=S3CRET-21")))
thread.start(); thread.join()
raise KeyError("the end: S3CRET-of-the-settings, refresh_token=S3CRET-22")
"""


def told(form: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", TALK, form, JWT], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("", 1)
    return done.stderr


@pytest.fixture(scope="module")
def human() -> str:
    return told("human")


@pytest.fixture(scope="module")
def as_json() -> str:
    return told("json")


def test_no_secret_passes_in_either_form(human: str, as_json: str) -> None:
    for text in (human, as_json):
        assert "S3CRET" not in text
        assert JWT[:20] not in text
        assert "***" in text


def test_what_is_no_secret_passes_in_either_form(human: str, as_json: str) -> None:
    for text in (human, as_json):
        for words in ("NSE_FO|61755", "state=1", "lib failed", "HTTP/1.1", "RuntimeError", "KeyError", "the end"):
            assert words in text
        assert "not shown" not in text


def test_lines_for_programs_are_json_with_time_level_and_worker(as_json: str) -> None:
    lines = [json.loads(line) for line in as_json.splitlines() if line.startswith("{")]
    assert len(lines) == 11
    for line in lines:
        assert line.keys() >= {"event", "level", "timestamp", "worker"}
        assert line["worker"] == "ingest"
        assert line["timestamp"].endswith("Z")
    failed = next(line for line in lines if line["event"] == "failed")
    assert "RuntimeError" in failed["exception"]
    assert "ValueError" in failed["exception"]
    nested = next(line for line in lines if line["event"] == "nested")
    assert nested["settings"] == {"upstox": {"access_token": "***", "list": [{"password": "***"}]}, "ok": 1}


def test_tracebacks_for_people_are_plain_and_without_the_values_of_variables(human: str) -> None:
    assert "Traceback (most recent call last)" in human
    assert "locals" not in human


def test_records_of_the_standard_library_look_like_ours(human: str, as_json: str) -> None:
    assert "lib failed with api_key=***" in human
    record = next(json.loads(line) for line in as_json.splitlines() if "HTTP/1.1" in line)
    assert (record["level"], record["event"]) == ("warning", "GET https://h/token?code=*** HTTP/1.1")


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("postgres://u:p@ss@h:5432/d", "postgres://***@h:5432/d"),
        ("redis://:pw@h", "redis://***@h"),
        ("https://h/a?access_token=abc&b=2", "https://h/a?access_token=***&b=2"),
        ('{"access_token": "a b c", "n": 1}', '{"access_token": "***", "n": 1}'),
        ("{'api_secret': 'abc', 'n': 1}", "{'api_secret': '***', 'n': 1}"),
        ("authorization: Basic YWJj", "authorization: ***"),
        ("Cookie: session=1; theme=dark", "Cookie: ***"),
        ("UPSTOX_API_SECRET=abc", "UPSTOX_API_SECRET=***"),
        (f"token {JWT}!", "token ***!"),
    ],
)
def test_a_secret_is_masked_and_what_stands_around_it_is_not(text: str, safe: str) -> None:
    assert masked_text(text) == safe


@pytest.mark.parametrize(
    "text",
    [
        "the token has expired: log in again",
        "HTTP code: 403",
        "http://127.0.0.1:8000/api/v1/stream/candles?instruments=NSE_EQ|INE002A01018",
        "unix:///tmp/a/redis.sock",
        "shard taken by vm-12-ab:3, 5:00 left",
        "mail me at a@b.c",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert masked_text(text) == text


SECRETS = st.text("abcXYZ019._~+/-", min_size=6, max_size=30)
NAMES = st.sampled_from(["access_token", "client_secret", "password", "UPSTOX_API_KEY", "apikey", "set-cookie"])


@given(SECRETS, NAMES, st.integers(0, 3))
def test_the_value_of_a_secret_name_never_shows_however_deep_it_is(secret: str, name: str, depth: int) -> None:
    event: Any = {name: secret}
    for _ in range(depth):
        event = {"more": [event, 1]}
    line = json.dumps(dict(masked(None, "", {"event": "x", **event})))
    assert secret not in line
    for text in (json.dumps(event), str(event), json.dumps(json.dumps(event)), f"?{name}={secret}&a=1"):
        assert secret not in masked_text(text)


@given(
    st.recursive(
        st.one_of(st.integers(), st.text(max_size=10)),
        lambda inner: st.dictionaries(st.text(max_size=8), inner, max_size=3),
    )
)
def test_masking_a_line_of_json_leaves_a_line_of_json(value: Any) -> None:
    assert "\n" not in masked_text(json.dumps({"event": value}))
    json.loads(masked_text(json.dumps({"event": value, "text": json.dumps(value), "token": "abc"})))


def test_masking_keeps_paths_and_numbers_as_they_are() -> None:
    event = {"event": "x", "n": 1, "share": 0.5, "path": Path("/tmp"), "none": None}
    assert masked(None, "", dict(event)) == event


def test_lines_go_to_what_standard_error_is_at_the_time() -> None:
    talk = """
import io, logging, sys
import structlog
from bus import log
from bus.settings import LogFormat
sys.stderr = first = io.StringIO()
log.configure("ingest", LogFormat.JSON, "INFO")
say = structlog.get_logger()
say.info("one")
logging.getLogger("lib").warning("two")
sys.stderr = sys.__stderr__
first.close()
say.info("three")
logging.getLogger("lib").warning("four")
"""
    done = subprocess.run([sys.executable, "-c", talk], cwd=ROOT, capture_output=True, text=True, check=True)
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == ["three", "four"]


def test_a_log_on_a_full_disk_ends_nobody() -> None:
    code = """
import structlog
from bus import log
from bus.settings import LogFormat
log.configure("ingest", LogFormat.JSON, "INFO")
structlog.get_logger("x").error("nobody can read this")
print("alive")
"""
    with open("/dev/full", "w") as full:  # every write fails: no space left on device
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=full,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.stdout == "alive\n"
