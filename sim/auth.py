"""OAuth codes, access tokens and one-time feed codes: pure, time is an argument.

A token is a JWT signed with HS256. The key is derived from the app's secret, so a login survives a restart of the
exchange. Like the venue's, a token dies at the next 03:30 IST, whenever it was issued.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from sim.hours import DAY_MS, MINUTE_MS, day_of, midnight_ms
from sim.settings import SimSettings

_DEATH_MINUTE: Final = 3 * 60 + 30
_CODES_MAX: Final = 10_000
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


class Refused(Exception):
    """A login step failed; `code` is the venue's."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Claims:
    user_id: str
    expires_ms: int
    token: str


class Auth:
    """Who is logged in. Codes are redeemed once, whether or not what follows succeeds."""

    def __init__(self, settings: SimSettings) -> None:
        self.settings = settings
        self._key = hashlib.sha256(b"teji-sim:" + settings.api_secret.encode()).digest()
        self._login_codes: dict[str, str] = {}  # code -> redirect_uri it was issued for
        self._feed_codes: dict[str, Claims] = {}
        self._dead: dict[str, None] = {}
        self._count = 0

    def check_client(self, client_id: str | None, redirect_uri: str | None) -> None:
        if client_id != self.settings.api_key or not self._is_ours(redirect_uri or ""):
            raise Refused(401, "UDAPI100068", "Check your 'client_id' and 'redirect_uri'; one or both are incorrect.")

    def approve(self, redirect_uri: str, state: str | None) -> str:
        """The user said yes: where to send the browser."""
        code = self._unique("login")[:6]
        _remember(self._login_codes, code, redirect_uri)
        query = {"code": code} | ({"state": state} if state is not None else {})
        separator = "&" if urlsplit(redirect_uri).query else "?"
        return f"{redirect_uri}{separator}{urlencode(query)}"

    def exchange(self, form: Mapping[str, str], now_ms: int) -> str:
        """A token for a code."""
        for field, code in _REQUIRED.items():
            if not form.get(field):
                raise Refused(400, code, f"{field} is required")
        issued_for = self._login_codes.pop(form["code"], None)
        if form["grant_type"] != "authorization_code" or form["client_id"] != self.settings.api_key:
            raise Refused(401, "UDAPI100069", "Check your 'client_id' and 'client_secret'; one or both are incorrect.")
        if not hmac.compare_digest(form["client_secret"].encode(), self.settings.api_secret.encode()):
            raise Refused(401, "UDAPI100069", "Check your 'client_id' and 'client_secret'; one or both are incorrect.")
        if issued_for is None or issued_for != form["redirect_uri"]:
            raise Refused(401, "UDAPI100057", "Invalid Auth code")
        return self.token(now_ms)

    def token(self, now_ms: int) -> str:
        claims = {
            "sub": self.settings.user_id,
            "jti": self._unique("token"),
            "isMultiClient": False,
            "isPlusPlan": self.settings.plus_plan,
            "iat": now_ms // 1_000,
            "iss": "udapi-gateway-service",
            "exp": next_death_ms(now_ms) // 1_000,
        }
        signed = f"{_encoded({'typ': 'JWT', 'alg': 'HS256'})}.{_encoded(claims)}"
        return f"{signed}.{self._signature(signed)}"

    def claims(self, token: str, now_ms: int) -> Claims | None:
        """None where the token is not ours, has died or was logged out."""
        signed, _, signature = token.rpartition(".")
        if token in self._dead or not hmac.compare_digest(self._signature(signed).encode(), signature.encode()):
            return None
        body = _decoded(signed.partition(".")[2])
        expires_ms = int(body["exp"]) * 1_000
        return Claims(str(body["sub"]), expires_ms, token) if now_ms < expires_ms else None

    def expire_all(self) -> None:
        """Every token dies: none that was signed so far is ours any more."""
        self._key = hashlib.sha256(self._key).digest()

    def log_out(self, token: str) -> None:
        _remember(self._dead, token, None)

    def feed_code(self, claims: Claims) -> tuple[str, str]:
        """Request id and code of a feed address that can be used once."""
        code = self._unique("feed")
        _remember(self._feed_codes, code, claims)
        return self._unique("request")[:16], code

    def redeem_feed_code(self, code: str, now_ms: int) -> Claims | None:
        claims = self._feed_codes.pop(code, None)
        return self.claims(claims.token, now_ms) if claims else None

    def _is_ours(self, redirect_uri: str) -> bool:
        if self.settings.redirect_uri:
            return redirect_uri == self.settings.redirect_uri
        return urlsplit(redirect_uri).hostname in _LOOPBACK

    def _unique(self, purpose: str) -> str:
        self._count += 1
        text = f"{purpose}:{self._count}:{self.settings.seed}"
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()[:32]

    def _signature(self, signed: str) -> str:
        return _unpadded(hmac.new(self._key, signed.encode(), hashlib.sha256).digest())


#: What the token form must have, and the venue's complaint where it has not.
_REQUIRED: Final = {
    "client_id": "UDAPI1017",
    "redirect_uri": "UDAPI1018",
    "code": "UDAPI1022",
    "grant_type": "UDAPI1023",
    "client_secret": "UDAPI1024",
}


def next_death_ms(now_ms: int) -> int:
    """The next 03:30 IST."""
    today_ms = midnight_ms(day_of(now_ms)) + _DEATH_MINUTE * MINUTE_MS
    return today_ms if now_ms < today_ms else today_ms + DAY_MS


def _remember(table: dict[str, Any], key: str, value: object) -> None:
    """Keep the newest; what nobody redeems must not fill the memory."""
    table[key] = value
    while len(table) > _CODES_MAX:
        del table[next(iter(table))]


def _encoded(content: Mapping[str, object]) -> str:
    return _unpadded(json.dumps(content, separators=(",", ":")).encode())


def _unpadded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decoded(text: str) -> dict[str, Any]:
    try:
        body = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, binascii.Error):
        return {"sub": "", "exp": 0}
    return body if isinstance(body, dict) else {"sub": "", "exp": 0}
