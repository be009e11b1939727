"""Settings: environment over `.env` over default, every mistake named, no secret shown."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bus.settings import Calendar, Settings, Venue, load
from schemas.commands import Mode
from schemas.errors import Misconfigured
from schemas.orders import TradingMode


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and nothing of ours in the environment."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_defaults_are_the_demo() -> None:
    found = load()
    assert (found.teji_venue, found.teji_mode, found.teji_feed_mode) == (Venue.SIM, TradingMode.PAPER, Mode.FULL)
    assert found.teji_instruments == ("demo",)
    assert (found.redis_url, found.postgres_url) == ("", "")
    assert found.teji_host == found.teji_metrics_host == "127.0.0.1"


def test_environment_goes_over_file_and_file_over_default(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (alone / ".env").write_text("TEJI_SHARDS=3\nTEJI_PORT=9000\n# TEJI_GRACE_MS=1\nSOMEBODY_ELSES=1\n")
    monkeypatch.setenv("TEJI_PORT", "9001")
    found = load()
    assert (found.teji_shards, found.teji_port, found.teji_grace_ms) == (3, 9001, 2000)
    assert load(teji_port=9002).teji_port == 9002


@pytest.mark.parametrize("name", ["teji_shards", "TEJI_SHARDS", "Teji_Shards"])
def test_the_case_of_a_name_does_not_matter(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "5")
    assert load().teji_shards == 5


def test_an_empty_value_counts_as_unset(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (alone / ".env").write_text("TEJI_SHARDS=\nREDIS_URL=\nTEJI_PORT=9000\n")
    for name in ("TEJI_PORT", "DATABASE_URL", "TEJI_INSTRUMENTS", "TEJI_MODE"):
        monkeypatch.setenv(name, "")
    found = load()
    assert (found.teji_shards, found.redis_url, found.postgres_url) == (1, "", "")
    assert (found.teji_port, found.teji_instruments, found.teji_mode) == (9000, ("demo",), TradingMode.PAPER)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("NSE_INDEX|Nifty 50", ("NSE_INDEX|Nifty 50",)),
        (" NIFTY , NSE_EQ|INE002A01018,,", ("NIFTY", "NSE_EQ|INE002A01018")),
        ("demo", ("demo",)),
    ],
)
def test_a_list_is_written_with_commas(text: str, keys: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEJI_INSTRUMENTS", text)
    assert load().teji_instruments == keys


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("teji_venue", "upstox", Venue.UPSTOX),
        ("teji_calendar", "always", Calendar.ALWAYS),
        ("teji_backfill", "false", False),
        ("teji_backfill", "1", True),
        ("teji_lease_s", "1.5", 1.5),
        ("teji_log_level", "debug", "DEBUG"),
        ("teji_home", "/srv/teji", Path("/srv/teji")),
    ],
)
def test_text_becomes_a_value(name: str, text: str, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name.upper(), text)
    assert getattr(load(), name) == value


def test_every_wrong_value_is_named_with_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {
        "TEJI_SHARDS": "0",
        "TEJI_PORT": "eighty",
        "TEJI_MODE": "yolo",
        "TEJI_LEASE_S": "nan",
        "TEJI_LOG_LEVEL": "LOUD",
    }
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Misconfigured) as caught:
        load()
    said = str(caught.value)
    for name, value in wrong.items():
        assert name in said
        assert repr(value) in said
    assert "\n" not in said


def test_a_wrong_secret_is_named_and_not_shown() -> None:
    for name in ("upstox_api_secret", "upstox_access_token", "database_url", "postgres_password", "redis_url"):
        with pytest.raises(Misconfigured) as caught:
            load(**{name: ["hunter2"]})
        assert name.upper() in str(caught.value)
        assert "hunter2" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_one_sentence(alone: Path) -> None:
    (alone / ".env").write_bytes(b"UPSTOX_API_SECRET=\xff\xfe\n")
    with pytest.raises(Misconfigured, match=r"\.env"):
        load()


def test_settings_do_not_change_once_they_are_read() -> None:
    found = load()
    with pytest.raises(ValidationError):
        found.teji_shards = 9  # type: ignore[misc]


def test_no_secret_is_in_the_text_of_the_settings() -> None:
    found = load(upstox_api_secret="hunter2", database_url="postgresql://u:hunter2@h/d", postgres_password="hunter2")
    assert "hunter2" not in repr(found) + str(found)


def test_the_secrets_are_known_for_the_logs() -> None:
    found = load(
        upstox_api_secret="one",
        upstox_access_token="two",
        redis_url="redis://:three@h/0",
        postgres_server="h",
        postgres_password="four",
    )
    assert set(found.secrets) == {"one", "two", "three", "four"}


def test_the_home_is_absolute_and_knows_the_users_own(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load().home == alone.resolve() / ".teji"
    monkeypatch.setenv("HOME", "/home/somebody")
    assert load(teji_home="~/teji").home == Path("/home/somebody/teji")


# Postgres


def test_a_whole_address_goes_over_its_parts() -> None:
    assert load(database_url="postgresql://a@b/c", postgres_server="h").postgres_url == "postgresql://a@b/c"


def test_without_a_server_the_parts_mean_nothing() -> None:
    assert load(postgres_user="u", postgres_password="p", postgres_db="d").postgres_url == ""


ANYTHING = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)


@given(user=ANYTHING, password=ANYTHING, database=ANYTHING, host=st.sampled_from(["db.example", "10.0.0.7", "::1"]))
def test_any_character_survives_in_the_address(user: str, password: str, database: str, host: str) -> None:
    parts = {"postgres_user": user, "postgres_password": password, "postgres_db": database}
    url = load(**parts, postgres_server=host, postgres_port=6543).postgres_url
    parts_read = urlsplit(url)
    assert (parts_read.hostname, parts_read.port) == (host, 6543)
    read = (parts_read.username or "", parts_read.password or "", parts_read.path.removeprefix("/"))
    assert tuple(map(unquote, read)) == (user, password, database)


def test_a_folder_names_the_server_by_its_socket() -> None:
    url = load(postgres_server="/var/run/my postgres", postgres_user="u", postgres_db="d").postgres_url
    assert url == "postgresql://u@/d?host=/var/run/my%20postgres&port=5432"


def test_the_plan_says_how_many_sockets_there_are() -> None:
    assert (load().feed_sockets, load(teji_feed_plan="plus").feed_sockets) == (2, 5)
    assert load(teji_feed_plan="plus", teji_feed_connections=3).feed_sockets == 3


@pytest.mark.parametrize(
    "given", [{"teji_feed_connections": 3}, {"teji_feed_mode": "full_d30"}], ids=["sockets", "thirty levels"]
)
def test_what_the_plan_does_not_hold_is_refused_with_what_to_set(given: dict[str, object]) -> None:
    with pytest.raises(Misconfigured, match=r"Set TEJI_FEED_PLAN=plus if the account has it, else .*"):
        load(**given)
    assert load(teji_feed_plan="plus", **given)
