"""The venue: reachable, the same time, a token that lives, an address that may send orders, a list of instruments."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

from brokers.upstox import egress
from brokers.upstox.auth import TokenStore, claims
from brokers.upstox.rest import READ_BUDGET, Budget, NeedsLogin, Rest, http_client, translated
from bus import clock
from bus.settings import Settings, Venue
from schemas.errors import Misconfigured, Rejected, Unavailable
from schemas.orders import TradingMode
from teji.doctor.findings import Finding, fail, ok, warn
from teji.running import Running

_IST: Final = timedelta(hours=5, minutes=30)
_SKEW_MS: Final = 2_000  # the venue's Date has whole seconds
_LIST_OLD_MS: Final = 36 * 3_600_000


async def examine(settings: Settings, supervisor: Running | None) -> list[Finding]:
    now_ms = clock.now_ms()
    url = _url(settings, supervisor)
    reached = [await _reached(url)] if url else [ok("venue", "the simulated exchange, which starts with `teji up`")]
    token = TokenStore(settings).current()
    where = await egress_findings(settings, url) if settings.teji_mode is TradingMode.LIVE else []
    return [*reached, token_finding(settings, token, now_ms), *where, _instruments(settings, now_ms)]


def _url(settings: Settings, supervisor: Running | None) -> str:
    """Where the venue is; empty for a simulated exchange that nobody has started."""
    if supervisor is not None and supervisor.sim_url:
        return supervisor.sim_url
    named = "upstox_api_url" in settings.model_fields_set
    return settings.upstox_api_url if named or settings.teji_venue is not Venue.SIM else ""


async def _reached(url: str) -> Finding:
    try:
        async with http_client() as client:
            asked_ms = clock.now_ms()
            with translated():
                answer = await client.head(url)
            now_ms = (asked_ms + clock.now_ms()) // 2
    except Unavailable as error:
        return fail("venue", f"{url}: {error}", "Look at your network, a proxy, and the venue's status page.")
    return skew(url, answer.headers.get("date", ""), now_ms)


def skew(url: str, date: str, now_ms: int) -> Finding:
    """Compare with the Date header of an answer; without one, that it answers is all we know."""
    try:
        theirs_ms = int(parsedate_to_datetime(date).timestamp() * 1000) + 500  # the middle of its second
    except ValueError:
        return ok("venue", f"{url} answers")
    if abs(now_ms - theirs_ms) > _SKEW_MS:
        ahead_s = (now_ms - theirs_ms) / 1000
        return warn("venue", f"{url} answers; this clock is {ahead_s:+.0f} s off", "Let this machine keep time by NTP.")
    return ok("venue", f"{url} answers, same time")


def token_finding(settings: Settings, token: str | None, now_ms: int) -> Finding:
    if settings.teji_venue is Venue.SIM:
        return ok("token", "the demo logs in by itself" if token is None else "the simulated exchange's")
    fresh = "Run `teji login upstox`."
    if token is None:
        return fail("token", "none", fresh)
    expires_s = claims(token).get("exp")
    if not isinstance(expires_s, int | float):
        return ok("token", "there; it does not say until when")
    until = datetime.fromtimestamp(expires_s, UTC) + _IST
    if expires_s * 1000 <= now_ms:
        return fail("token", f"died at {until:%d %b %H:%M} IST", fresh)
    return ok("token", f"good until {until:%d %b %H:%M} IST")


async def egress_findings(settings: Settings, url: str) -> list[Finding]:
    """Whether live orders may leave from here. `url` is where the venue is, which for the demo no setting says."""
    if not url:
        return []
    simulated = {"upstox_api_url": url, "upstox_order_url": url} if settings.teji_venue is Venue.SIM else {}
    there = settings.model_copy(update=simulated)
    try:
        async with http_client() as client:
            rest = Rest(client, url, TokenStore(settings).current, Budget(READ_BUDGET, clock.monotonic_s))
            found = await egress.check(rest, there)
    except NeedsLogin:
        return [warn("egress", "unknown without a login", "Run `teji login upstox`, then ask again.")]
    except (Unavailable, Rejected, Misconfigured) as error:
        return [fail("egress", str(error), "Live orders need an answer: look at TEJI_EGRESS_IP and your network.")]
    if not found.ok:
        return [fail("egress", found.sentence, "Register the address with the venue, and set TEJI_EGRESS_IP to it.")]
    return [ok("egress", found.sentence)]


def _instruments(settings: Settings, now_ms: int) -> Finding:
    path = settings.home / "instruments" / f"{settings.teji_venue.value}.json.gz"
    if not path.exists():
        return ok("instruments", "none yet: fetched at the first start")
    stat = path.stat()
    age_ms = now_ms - int(stat.st_mtime * 1000)
    detail = f"{stat.st_size / 1e6:.1f} MB, {age_ms / 3_600_000:.0f} h old"
    if age_ms > _LIST_OLD_MS:
        return warn("instruments", detail, "Start ingest: it fetches today's list.")
    return ok("instruments", detail)
