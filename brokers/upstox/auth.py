"""The access token: found, kept encrypted, exchanged for a login code. It dies at 03:30 IST whatever happens.

Looked up at every use, so a worker picks up a fresh login without a restart. On disk it is encrypted with a key in a
file of its own, both readable by their owner only.
"""

import base64
import contextlib
import fcntl
import tempfile
from pathlib import Path
from typing import Any, Final

import httpx
import orjson
from cryptography.fernet import Fernet, InvalidToken

from brokers.upstox.rest import NeedsLogin, Throttled, complaint, translated
from bus.settings import Settings
from schemas.errors import Misconfigured, Unavailable

DIALOG_PATH: Final = "/v2/login/authorization/dialog"
_LAST_S: Final = 4_102_444_800  # the year 2100
TOKEN_PATH: Final = "/v2/login/authorization/token"  # noqa: S105 - a path


class TokenStore:
    """The token of the environment, else the one that a login left in TEJI_HOME; never one that the venue refused."""

    def __init__(self, settings: Settings) -> None:
        self._given = settings.upstox_access_token.get_secret_value().strip()
        if not is_clean(self._given):
            raise Misconfigured("UPSTOX_ACCESS_TOKEN has characters that no token has: copy it again.")
        self._folder = settings.home / "secrets"
        self._file = self._folder / "upstox.token"
        self._key_file = self._folder / "key"
        self._seen: tuple[int, int] | None = None  # inode and time of the file that `_read` came from
        self._read: str | None = None
        self._refused: set[str] = set()

    def current(self) -> str | None:
        for token in (self._given, self._stored()):
            if token and token not in self._refused:
                return token
        return None

    def refuse(self, token: str) -> None:
        """The venue says that this one is dead. It is not offered again; another login ends the wait."""
        self._refused.add(token)

    def _stored(self) -> str | None:
        try:
            stat = self._file.stat()
            if self._seen != (stat.st_ino, stat.st_mtime_ns):
                self._read = self._opened()
                self._seen = (stat.st_ino, stat.st_mtime_ns)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Misconfigured(f"Cannot read {error.filename} ({error.strerror}): it has to be ours.") from None
        return self._read

    def _opened(self) -> str | None:
        """None where the file is damaged or of another key: as good as no token, a login replaces it."""
        try:
            token = Fernet(self._key_file.read_bytes()).decrypt(self._file.read_bytes()).decode()
        except (InvalidToken, ValueError):
            return None
        return token if is_clean(token) else None

    def save(self, token: str) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._folder.chmod(0o700)
            with open(self._folder / "lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # two that make a key at once would lock one another out
                _write_private(self._file, Fernet(self._key()).encrypt(token.encode()))
        except OSError as error:
            where = f"{self._folder} ({error.strerror})"
            raise Misconfigured(f"Cannot write in {where}: set TEJI_HOME to a folder of yours.") from None

    def forget(self) -> bool:
        """After a logout. False: a token of the environment stays, which only a person can take away."""
        try:
            self._file.unlink(missing_ok=True)
        except OSError as error:
            raise Misconfigured(f"Cannot remove {self._file} ({error.strerror}): it has to be ours.") from None
        return not self._given

    def user(self) -> str:
        """Whose the last token was, dead or alive; empty where nobody knows. A hint: tokens are read unverified."""
        return next((user for token in (self._given, self._stored()) if token and (user := user_of(token))), "")

    def _key(self) -> bytes:
        """Made at the first login, and anew where it is damaged: what it had sealed is lost then anyway."""
        with contextlib.suppress(FileNotFoundError):
            key = self._key_file.read_bytes()
            if _is_key(key):
                return key
        key = Fernet.generate_key()
        _write_private(self._key_file, key)
        return key


def is_clean(token: str) -> bool:
    return all("!" <= letter <= "~" for letter in token)


def _is_key(key: bytes) -> bool:
    try:
        Fernet(key)
    except ValueError:
        return False
    return True


def _write_private(path: Path, body: bytes) -> None:
    """Whole or not at all, and never readable by others in between."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # opens with mode 0600
    part = Path(name)
    try:
        with open(handle, "wb") as file:
            file.write(body)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


async def exchange_code(client: httpx.AsyncClient, settings: Settings, code: str) -> str:
    """The access token for the code that the login dialog sent along. A code works once, whatever comes of it."""
    form = {
        "code": code,
        "client_id": settings.upstox_api_key,
        "client_secret": settings.upstox_api_secret.get_secret_value(),
        "redirect_uri": settings.upstox_redirect_uri,
        "grant_type": "authorization_code",
    }
    with translated():
        answer = await client.post(settings.upstox_api_url + TOKEN_PATH, data=form)
    body = _decoded(answer.content)
    if answer.status_code == 429:
        raise Throttled("429: too many logins")
    if answer.status_code == 423 or answer.status_code >= 500:
        raise Unavailable(f"the venue answers the login with {answer.status_code}")
    token = body.get("access_token")
    if answer.status_code != 200 or not isinstance(token, str) or not token or not is_clean(token):
        why, _ = complaint(body)
        raise NeedsLogin(f"the venue does not accept the login code ({why or answer.status_code})")
    return token


def claims(token: str) -> dict[str, Any]:
    """What the token says of itself (`exp`, `isPlusPlan`), unverified: a hint, not a proof."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        return _decoded(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return {}


def expires_ms(token: str) -> int | None:
    """When a token dies, by what it says of itself."""
    expires_s = claims(token).get("exp")
    if isinstance(expires_s, bool) or not isinstance(expires_s, int | float) or not 0 < expires_s < _LAST_S:
        return None
    return int(expires_s * 1000)


def user_of(token: str) -> str:
    user = claims(token).get("sub")
    return user if isinstance(user, str) else ""


def _decoded(body: bytes) -> dict[str, Any]:
    """A JSON object; an empty one for anything else."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
