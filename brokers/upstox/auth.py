"""The access token: found, kept encrypted, exchanged for a login code. It dies at 03:30 IST whatever happens.

Looked up at every use, so a worker picks up a fresh login without a restart. On disk it is encrypted with a key in a
file of its own, both readable by their owner only.
"""

import base64
import os
from pathlib import Path
from typing import Any, Final

import httpx
import orjson
from cryptography.fernet import Fernet, InvalidToken

from brokers.upstox.rest import NeedsLogin, translated
from bus.settings import Settings
from schemas.errors import Misconfigured

DIALOG_PATH: Final = "/v2/login/authorization/dialog"
TOKEN_PATH: Final = "/v2/login/authorization/token"  # noqa: S105 - a path


class TokenStore:
    """The token of the environment, else the one that a login left in TEJI_HOME."""

    def __init__(self, settings: Settings) -> None:
        self._given = settings.upstox_access_token.get_secret_value()
        self._folder = settings.home / "secrets"
        self._file = self._folder / "upstox.token"
        self._read: tuple[int, str | None] = (-1, None)

    def current(self) -> str | None:
        return self._given or self._stored()

    def _stored(self) -> str | None:
        try:
            changed = self._file.stat().st_mtime_ns
        except FileNotFoundError:
            return None
        if changed != self._read[0]:
            self._read = (changed, self._decrypt(self._file.read_bytes()))
        return self._read[1]

    def save(self, token: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write_private(self._file, Fernet(self._key()).encrypt(token.encode()))

    def _decrypt(self, sealed: bytes) -> str | None:
        try:
            return Fernet(self._key()).decrypt(sealed).decode()
        except InvalidToken:
            return None  # another key's: as good as no token, a login replaces it

    def _key(self) -> bytes:
        path = self._folder / "key"
        if not path.exists():
            _write_private(path, Fernet.generate_key())
        return path.read_bytes()


def _write_private(path: Path, body: bytes) -> None:
    """Whole or not at all, and never readable by others in between."""
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(body)
        part.replace(path)
    except OSError as error:
        raise Misconfigured(f"Cannot write {path} ({error.strerror}): set TEJI_HOME to a folder of yours.") from None


async def exchange_code(client: httpx.AsyncClient, settings: Settings, code: str) -> str:
    """The access token for the code that the login dialog sent along. A code works once."""
    form = {
        "code": code,
        "client_id": settings.upstox_api_key,
        "client_secret": settings.upstox_api_secret.get_secret_value(),
        "redirect_uri": settings.upstox_redirect_uri,
        "grant_type": "authorization_code",
    }
    with translated():
        answer = await client.post(settings.upstox_api_url + TOKEN_PATH, data=form)
    if answer.status_code != 200:
        raise NeedsLogin(f"the venue does not accept the login code ({answer.status_code})")
    return str(answer.json()["access_token"])


def claims(token: str) -> dict[str, Any]:
    """What the token says of itself (`exp`, `isPlusPlan`), unverified: a hint, not a proof."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        body = orjson.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
