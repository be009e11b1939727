"""A server that dies at a stage of its choice: raw bytes on a real socket, every connection and request counted."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class At(Enum):
    """Where a connection ends, or hangs."""

    ACCEPT = "closes at once"
    HEAD = "closes after the head of the request"
    REQUEST = "closes after the whole request"
    STATUS = "closes in the middle of the status line"
    BODY = "closes in the middle of its answer's body"
    RESET = "resets the line after the request"
    MUTE = "never answers"
    DRIP = "answers one byte at a time, for ever"
    NEVER = "answers, and closes when asked to"
    IDLE = "answers, then closes the idle line"


@dataclass
class Dying:
    at: At
    answer: bytes = b""  # whole, for NEVER and IDLE
    url: str = ""
    requests: list[bytes] = field(default_factory=list)  # heads and bodies
    connections: int = 0
    closed: int = 0  # by us, while idle
    delay_s: Callable[[], float] = lambda: 0.0


def http(status: int, body: bytes = b"", *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 %d X" % status, b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@contextlib.asynccontextmanager
async def dying(at: At, answer: bytes = b"", tls: ssl.SSLContext | None = None) -> AsyncIterator[Dying]:
    server = Dying(at, answer)
    serving: list[asyncio.Task[None]] = []

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        serving.append(asyncio.create_task(_visit(server, reader, writer)))
        writers.append(writer)

    writers: list[asyncio.StreamWriter] = []
    listener = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    server.url = f"http{'s' if tls else ''}://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()


async def _visit(server: Dying, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        await _serve(server, reader, writer)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def _serve(server: Dying, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while server.at is not At.ACCEPT:
        head = await reader.readuntil(b"\r\n\r\n")
        number = len(server.requests)
        server.requests.append(head)
        if server.at is At.HEAD:
            return
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        body = await reader.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0)
        server.requests[number] += body
        if server.at is At.REQUEST:
            return
        if server.at is At.RESET:
            writer.transport.abort()
            return
        await _answer(server, writer)
        if server.at is At.IDLE:
            server.closed += 1
            return


async def _answer(server: Dying, writer: asyncio.StreamWriter) -> None:
    match server.at:
        case At.STATUS:
            writer.write(b"HTTP/1.1 20")
            await writer.drain()
            raise ConnectionError
        case At.BODY:
            writer.write(http(200, b'{"status":"success","data":{"order_ids":["1"]}}')[:-9])
            await writer.drain()
            raise ConnectionError
        case At.MUTE:
            await asyncio.Event().wait()
        case At.DRIP:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)
    await asyncio.sleep(server.delay_s())
    writer.write(server.answer)
    await writer.drain()


def self_signed(folder: Path) -> ssl.SSLContext:
    """For a server that nobody vouches for."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    signed = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (folder / "server.pem").write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context
