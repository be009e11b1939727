"""The feed socket against a real server, which does what servers do on bad days."""

import asyncio
import contextlib
import gc
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.asyncio.server import ServerConnection, serve
from websockets.frames import Frame, Opcode

from brokers.upstox.feed import FeedSocket, authorize, connect
from brokers.upstox.limits import FRAME_MAX_BYTES, KEYS_PER_MESSAGE
from brokers.upstox.rest import Blocked, Budget, NeedsLogin, Rest, Throttled, http_client
from schemas.commands import Mode
from schemas.errors import Unavailable
from tests.brokers.scripted import Answer, scripted, success

Handler = Callable[[ServerConnection], Awaitable[None]]
SECRET = "one-time-secret"


@contextlib.asynccontextmanager
async def served(handler: Handler, **options: Any) -> AsyncIterator[str]:
    async with serve(handler, "127.0.0.1", 0, compression=None, close_timeout=0.1, **options) as server:
        scheme = "wss" if options.get("ssl") else "ws"
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"{scheme}://127.0.0.1:{port}/feeds?code={SECRET}"


class Heard:
    """What came over a socket."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.texts: list[str] = []
        self.any = asyncio.Event()

    def frame(self, view: Any) -> None:
        self.frames.append(bytes(view))
        self.any.set()

    def text(self, text: str) -> None:
        self.texts.append(text)
        self.any.set()


@contextlib.asynccontextmanager
async def connected(url: str, heard: Heard, ping_s: float = 5.0) -> AsyncIterator[FeedSocket]:
    socket = await connect(url, heard.frame, heard.text, ping_s=ping_s)
    try:
        yield socket
    finally:
        socket.disconnect("done", "")
        await socket.wait_gone()


async def ended(handler: Handler, heard: Heard | None = None, **more: Any) -> Any:
    """How a connection to such a server ends."""
    async with served(handler) as url, connected(url, heard or Heard(), **more) as socket, asyncio.timeout(10):
        return await socket.closed


async def refused(url: str) -> Exception:
    with pytest.raises(Unavailable) as raised:
        await connect(url, lambda _: None, lambda _: None, ping_s=5.0)
    assert SECRET not in str(raised.value)
    return raised.value


# What comes


async def test_frames_come_whole_whatever_their_size_and_in_whatever_pieces() -> None:
    sent = [b"a", bytes(200_000), b"x" * (4 << 20), b"", b"last"]

    async def handler(client: ServerConnection) -> None:
        for body in sent:
            await client.send(body)
        await client.send([b"in ", b"", b"three ", b"pieces"])

    heard = Heard()
    await ended(handler, heard)
    assert heard.frames == [*sent, b"in three pieces"]


async def test_text_is_told_apart_in_one_frame_and_in_several() -> None:
    async def handler(client: ServerConnection) -> None:
        await client.send('{"status":"failed"}')
        await client.send(["in ", "two"])
        await client.send(b"frame")

    heard = Heard()
    await ended(handler, heard)
    assert (heard.texts, heard.frames) == (['{"status":"failed"}', "in two"], [b"frame"])


async def test_a_ping_inside_a_message_in_pieces_does_no_harm() -> None:
    async def handler(client: ServerConnection) -> None:
        frames = [Frame(Opcode.BINARY, b"a", fin=False), Frame(Opcode.PING, b"?"), Frame(Opcode.CONT, b"b")]
        for frame in frames:
            client.transport.write(frame.serialize(mask=False))
        await asyncio.sleep(0)

    heard = Heard()
    await ended(handler, heard)
    assert heard.frames == [b"ab"]


async def test_a_message_in_pieces_may_not_grow_without_limit() -> None:
    async def handler(client: ServerConnection) -> None:
        await client.send([bytes(4 << 20)] * (FRAME_MAX_BYTES // (4 << 20) + 1))

    heard = Heard()
    assert (await ended(handler, heard)).cause == "too_large"
    assert heard.frames == []


async def test_nothing_is_handed_out_after_the_end() -> None:
    heard = Heard()
    hung_up = asyncio.Event()

    async def handler(client: ServerConnection) -> None:
        for number in range(50):
            client.transport.write(Frame(Opcode.BINARY, b"%d" % number).serialize(mask=False))
        await hung_up.wait()

    async with served(handler) as url:
        async with connected(url, heard) as socket:
            await heard.any.wait()
            socket.disconnect("done", "enough")
            had = len(heard.frames)
            hung_up.set()
        assert (await socket.closed).cause == "done"
    assert len(heard.frames) == had


# How it ends


@pytest.mark.parametrize(("code", "reason"), [(1000, "bye"), (1001, ""), (1011, "oops"), (4321, "own code")])
async def test_a_close_tells_its_code_and_reason(code: int, reason: str) -> None:
    closed = await ended(lambda client: client.close(code, reason))
    assert closed.cause == f"closed_{code}"
    assert f"({code}): {reason or 'no reason given'}" in closed.reason


async def test_a_close_without_a_code_is_a_close() -> None:
    async def handler(client: ServerConnection) -> None:
        client.transport.write(Frame(Opcode.CLOSE, b"").serialize(mask=False))
        await client.wait_closed()

    assert (await ended(handler)).cause == "closed_0"


async def test_a_line_that_is_cut_is_broken() -> None:
    async def handler(client: ServerConnection) -> None:
        client.transport.abort()

    assert (await ended(handler)).cause == "broken"


@pytest.mark.parametrize("raw", [b"\x83\x00", b"\x82\xff" + bytes(8)])
async def test_a_server_that_breaks_the_protocol_is_left(raw: bytes) -> None:
    async def handler(client: ServerConnection) -> None:
        client.transport.write(raw)
        await client.wait_closed()

    assert (await ended(handler)).cause == "protocol"
    gc.collect()  # the library's own error has been seen to: nobody complains that it was not


async def test_a_frame_larger_than_any_is_refused_before_it_is_read() -> None:
    async def handler(client: ServerConnection) -> None:
        client.transport.write(b"\x82\x7f" + (FRAME_MAX_BYTES + 1).to_bytes(8, "big"))
        await client.wait_closed()

    assert (await ended(handler)).cause == "protocol"


async def test_a_server_that_answers_no_ping_is_left() -> None:
    async def handler(client: ServerConnection) -> None:
        client.transport.pause_reading()
        await client.wait_closed()

    assert (await ended(handler, ping_s=0.1)).cause == "no_pong"


async def test_what_a_callback_raises_reaches_whoever_waits_for_the_end() -> None:
    async def handler(client: ServerConnection) -> None:
        await client.send(b"frame")
        await client.wait_closed()

    def bug(_: Any) -> None:
        raise KeyError("a bug of ours")

    async with served(handler) as url:
        socket = await connect(url, bug, lambda _: None, ping_s=5.0)
        with pytest.raises(KeyError, match="a bug of ours"):
            await asyncio.wait_for(socket.closed, 10)
        socket.disconnect("done", "")
        await socket.wait_gone()


# Getting in


@pytest.mark.parametrize(
    ("status", "kind"), [(401, NeedsLogin), (403, Blocked), (429, Throttled), (503, Unavailable), (404, Unavailable)]
)
async def test_a_refused_handshake_says_what_to_do(status: int, kind: type[Exception]) -> None:
    async def never(client: ServerConnection) -> None:
        raise AssertionError

    async with served(never, process_request=lambda client, _: client.respond(HTTPStatus(status), "no")) as url:
        assert type(await refused(url)) is kind


@pytest.mark.parametrize(
    "url", [f"ws://127.0.0.1:9/?code={SECRET}", f"ws://?code={SECRET}", f"ws://host:none/?code={SECRET}", "ws://a b"]
)
async def test_an_address_that_leads_nowhere_is_unavailable(url: str) -> None:
    await refused(url)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\n\r\n", b"garbage\r\n\r\n"])
async def test_a_server_that_hangs_up_instead_of_shaking_hands_is_unavailable(answer: bytes) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(handler, "127.0.0.1", 0) as server:
        await refused(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/?code={SECRET}")


async def test_an_attempt_that_was_given_up_leaves_no_connection_behind() -> None:
    asked, let_in, gone = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(client: ServerConnection, _: Any) -> None:
        asked.set()
        await let_in.wait()

    async def handler(client: ServerConnection) -> None:
        await client.wait_closed()
        gone.set()

    async with served(handler, process_request=slow) as url:
        attempt = asyncio.create_task(connect(url, lambda _: None, lambda _: None, ping_s=5.0))
        await asked.wait()
        attempt.cancel()
        await asyncio.gather(attempt, return_exceptions=True)
        let_in.set()
        await asyncio.wait_for(gone.wait(), 10)


# Asking


async def test_requests_are_json_in_binary_frames_with_a_bounded_number_of_keys() -> None:
    asked: list[Any] = []

    async def handler(client: ServerConnection) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            asked.extend([await client.recv() for _ in range(5)])

    keys = [f"NSE_FO|{number}" for number in range(3 * KEYS_PER_MESSAGE - 1)]
    async with served(handler) as url, connected(url, Heard()) as socket:
        socket.send("sub", keys, Mode.FULL)
        socket.send("change_mode", keys[:1], Mode.LTPC)
        socket.send("unsub", keys[:1])
        await asyncio.wait_for(socket.closed, 10)
        socket.send("sub", keys)  # nobody is there any more: nothing happens

    assert all(isinstance(each, bytes) for each in asked)
    parsed = [orjson.loads(each) for each in asked]
    assert [each["method"] for each in parsed] == ["sub", "sub", "sub", "change_mode", "unsub"]
    assert sorted(key for each in parsed[:3] for key in each["data"]["instrumentKeys"]) == sorted(keys)
    assert max(len(each["data"]["instrumentKeys"]) for each in parsed) == KEYS_PER_MESSAGE
    assert [each["data"].get("mode") for each in parsed] == ["full"] * 3 + ["ltpc", None]
    assert len({each["guid"] for each in parsed}) == 5
    assert max(len(each["guid"]) for each in parsed) <= 20


async def test_a_held_socket_reads_nothing_until_it_is_let_go() -> None:
    held, sent = asyncio.Event(), asyncio.Event()

    async def handler(client: ServerConnection) -> None:
        await held.wait()
        await client.send(b"frame")
        sent.set()
        await client.wait_closed()

    heard = Heard()
    async with served(handler) as url, connected(url, heard) as socket:
        socket.hold(True)
        held.set()
        await sent.wait()
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert heard.frames == []
        socket.hold(False)
        await asyncio.wait_for(heard.any.wait(), 10)


# TLS


def certificate(folder: Path, *, host: str = "127.0.0.1", days: int = 1) -> tuple[Path, ssl.SSLContext]:
    """A certificate that vouches for itself, and a server that shows it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=3))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain = folder / "certificate.pem"
    chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret = folder / "key.pem"
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, secret)
    return chain, context


async def hello(client: ServerConnection) -> None:
    await client.send(b"hello")
    await client.wait_closed()


async def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    _, context = certificate(tmp_path)
    async with served(hello, ssl=context) as url:
        assert "certificate" in str(await refused(url)).lower()


async def test_a_certificate_of_an_authority_we_trust_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, context = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(chain))
    heard = Heard()
    async with served(hello, ssl=context) as url, connected(url, heard):
        await asyncio.wait_for(heard.any.wait(), 10)
    assert heard.frames == [b"hello"]


@pytest.mark.parametrize(("host", "days"), [("127.0.0.9", 1), ("127.0.0.1", -1)], ids=["another host", "expired"])
async def test_a_certificate_of_another_host_or_time_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, days: int
) -> None:
    chain, context = certificate(tmp_path, host=host, days=days)
    monkeypatch.setenv("SSL_CERT_FILE", str(chain))
    async with served(hello, ssl=context) as url:
        await refused(url)


# Authorize


async def authorized(answer: Answer, feed_url: str = "") -> str:
    async with scripted() as venue, http_client() as client:
        venue.on("/v3/feed/market-data-feed/authorize", answer)
        return await authorize(Rest(client, venue.url, lambda: "t", Budget((), lambda: 0.0)), feed_url)


@pytest.mark.parametrize("name", ["authorized_redirect_uri", "authorizedRedirectUri"])
async def test_the_address_is_read_in_both_spellings(name: str) -> None:
    assert await authorized(success({name: "wss://feeder/x?code=1"})) == "wss://feeder/x?code=1"


async def test_another_host_can_stand_in_for_the_one_that_was_named() -> None:
    answer = success({"authorized_redirect_uri": "wss://feeder/a/b?requestId=1&code=2"})
    assert await authorized(answer, "ws://127.0.0.1:99") == "ws://127.0.0.1:99/a/b?requestId=1&code=2"


@pytest.mark.parametrize("data", [None, [], "wss://x", {}, {"authorized_redirect_uri": "https://feeder/x"}, {"a": 1}])
async def test_an_authorization_without_an_address_is_unavailable(data: Any) -> None:
    with pytest.raises(Unavailable, match="without saying where"):
        await authorized(success(data))
