"""
A TLS stream alone, between a server made of BIOs and a protocol that notes what it is told.

Nothing here depends on when the event loop reads: the test decides in which pieces the bytes arrive.
"""

from __future__ import annotations

import asyncio
import gc
import ssl
import weakref
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from switch_proxy.http1.tls_stream import TlsBuffers, TlsStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "api.example.com"
BOTH_VERSIONS = pytest.mark.parametrize(
    "version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS 1.2", "TLS 1.3"]
)


class Contexts:
    """A server's context for each version, and the client's."""

    def __init__(self) -> None:
        authority = trustme.CA()
        certificate = authority.issue_cert(NAME)
        self.servers = {}
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            server.minimum_version = server.maximum_version = version
            certificate.configure_cert(server)
            self.servers[version] = server
        self.client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority.configure_trust(self.client)


class Protocol(asyncio.Protocol):
    """Notes what it is told; on the first data, does what the test wants."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.pieces: list[bytes] = []
        self.ends: list[object] = []
        self.fullness: list[str] = []
        self.on_data: Callable[[], None] = lambda: None
        self.keeps_open = False

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert self.transport is None
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert data
        assert not self.ends
        self.pieces.append(data)
        self.on_data()

    def eof_received(self) -> bool:
        self.ends.append("close_notify")
        return self.keeps_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.ends.append(exc)

    def pause_writing(self) -> None:
        self.fullness.append("full")

    def resume_writing(self) -> None:
        self.fullness.append("drained")


class PlainTransport(asyncio.Transport):
    """What the event loop would give: keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.has_closed = False
        self.has_aborted = False
        self.is_paused = False
        self.waiting = 0

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.has_aborted
        self.sent += data

    def close(self) -> None:
        self.has_closed = True

    def abort(self) -> None:
        self.has_aborted = True

    def is_closing(self) -> bool:
        return self.has_closed or self.has_aborted

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False


class Connection:
    """Both ends of a connection whose handshake is over."""

    def __init__(self, loop: asyncio.AbstractEventLoop, contexts: Contexts, version: ssl.TLSVersion) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = contexts.servers[version].wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.protocol = Protocol()
        self.transport = PlainTransport()
        self.stream = TlsStream(
            self.protocol,
            wrap=partial(contexts.client.wrap_bio, server_hostname=NAME),
            buffers=TlsBuffers(),
            established=loop.create_future(),
        )
        self.stream.connection_made(self.transport)

    def shake_hands(self, *sizes: int, before_last: bytes = b"") -> None:
        """Do the handshake, with the server's bytes in pieces of these sizes and then all the rest."""
        is_over = False
        while not is_over:
            self.take()
            try:
                self.server.do_handshake()
                is_over = True
                if before_last:
                    self.server.write(before_last)
            except ssl.SSLWantReadError:
                pass
            self.arrive(self.outgoing.read(), *sizes)
        self.take()

    def take(self) -> bytes:
        """Give the server what was sent, and return the plaintext."""
        if self.transport.sent:
            self.incoming.write(bytes(self.transport.sent))
            self.transport.sent.clear()
        plain = b""
        with suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            while self.server.version() and (data := self.server.read(65536)):
                plain += data
        return plain

    def encrypt(self, *records: bytes) -> bytes:
        """Return records of the server with this content; an empty one stands for close_notify."""
        for each in records:
            if each:
                self.server.write(each)
            else:
                with suppress(ssl.SSLError):
                    self.server.unwrap()
        return self.outgoing.read()

    def arrive(self, data: bytes, *sizes: int) -> None:
        """Let bytes of the server arrive, in pieces of these sizes and then all the rest."""
        left = memoryview(data)
        steps = iter(sizes)
        while left and not self.transport.is_closing():
            room = self.stream.get_buffer(-1)
            size = min(next(steps, len(left)), len(left), len(room))
            room[:size] = left[:size]
            left = left[size:]
            self.stream.buffer_updated(size)

    def end(self) -> None:
        """Let the socket end, as the event loop would tell it."""
        if not self.transport.is_closing() and not self.stream.eof_received():
            self.transport.close()
        self.lose()

    def lose(self, error: Exception | None = None) -> None:
        if self.transport.is_closing() or error is not None:
            self.stream.connection_lost(error)


@pytest.fixture(scope="module")
def contexts() -> Contexts:
    return Contexts()


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop for futures alone: it does not run unless a test lets it."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


Connect = partial[Connection]


@pytest.fixture(scope="module")
def connect(loop: asyncio.AbstractEventLoop, contexts: Contexts) -> Connect:
    return partial(Connection, loop, contexts)


# Any segmentation of the bytes gives the same.

_records = st.lists(
    st.one_of(st.binary(min_size=1, max_size=40), st.integers(1, 40000).map(bytes)), min_size=1, max_size=6
)
_sizes = st.lists(st.one_of(st.integers(1, 60), st.integers(1, 40000)), max_size=30)
_endings = st.sampled_from(["close_notify", "close_notify and more", "cut", "cut in a record", "garbage", "broken"])


@BOTH_VERSIONS
@settings(max_examples=60, deadline=None)
@given(records=_records, sizes=_sizes, ending=_endings)
def test_any_segmentation_of_the_records_gives_the_same_bytes_and_the_same_end(
    version: ssl.TLSVersion,
    connect: Connect,
    records: list[bytes],
    sizes: list[int],
    ending: str,
) -> None:
    connection = connect(version)
    connection.shake_hands()
    data = connection.encrypt(*records)
    match ending:
        case "close_notify":
            data += connection.encrypt(b"")
        case "close_notify and more":
            data += connection.encrypt(b"") + b"\x17\x03\x03\x00\x20" + bytes(32)
        case "cut in a record":
            data += connection.encrypt(b"the rest of this is missing")[:-1]
        case "garbage":
            data += b"HTTP/1.1 400 Bad Request\r\n\r\n"
        case "broken":
            data += b"\x17\x03\x03\x00\x20" + bytes(32)
    connection.arrive(data, *sizes)
    connection.end()
    protocol = connection.protocol
    assert protocol.data == b"".join(records)
    if ending.startswith("close_notify"):
        assert protocol.ends == ["close_notify", None]
    else:
        (error,) = protocol.ends
        assert isinstance(error, EOFError if ending.startswith("cut") else ssl.SSLError)


@BOTH_VERSIONS
@settings(max_examples=40, deadline=None)
@given(sizes=_sizes, has_early_data=st.booleans())
def test_any_segmentation_of_the_handshake_establishes_the_connection(
    version: ssl.TLSVersion, connect: Connect, sizes: list[int], has_early_data: bool
) -> None:
    """Records behind the handshake may be in the same piece as its end: tickets, and a server that speaks first."""
    early = b"too early" if has_early_data else b""
    connection = connect(version)
    connection.shake_hands(*sizes, before_last=early)
    assert connection.stream.established.done()
    assert connection.protocol.data == early
    connection.stream.write(b"hello")
    assert connection.take() == b"hello"


@BOTH_VERSIONS
@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(0, 300_000), max_size=5))
def test_what_is_written_arrives(version: ssl.TLSVersion, connect: Connect, sizes: list[int]) -> None:
    connection = connect(version)
    connection.shake_hands()
    written = [bytes([index]) * size for index, size in enumerate(sizes)]
    for each in written:
        connection.stream.write(each)
    assert connection.take() == b"".join(written)


def test_records_that_arrive_together_are_handed_on_in_one_piece(connect: Connect) -> None:
    connection = connect(ssl.TLSVersion.TLSv1_3)
    connection.shake_hands()
    connection.arrive(connection.encrypt(bytes(16384), bytes(16384), b"x"))
    assert [len(each) for each in connection.protocol.pieces] == [32769]


def test_one_connections_record_in_the_making_does_not_disturb_another_with_the_same_buffers(connect: Connect) -> None:
    one, other = connect(ssl.TLSVersion.TLSv1_3), connect(ssl.TLSVersion.TLSv1_3)
    other.stream._buffers = one.stream._buffers  # what connections of one proxy have in common
    for each in (one, other):
        each.shake_hands()
    first, second = one.encrypt(b"a" * 9000), other.encrypt(b"b" * 9000)
    one.arrive(first[:5000])
    other.arrive(second[:3000])
    one.arrive(first[5000:])
    other.arrive(second[3000:])
    assert one.protocol.data == b"a" * 9000
    assert other.protocol.data == b"b" * 9000


# The end.


@BOTH_VERSIONS
def test_a_connection_that_the_peer_has_ended_is_closed_with_close_notify(
    connect: Connect, version: ssl.TLSVersion
) -> None:
    """RFC 5246 §7.2.1, RFC 8446 §6.1."""
    connection = connect(version)
    connection.shake_hands()
    connection.arrive(connection.encrypt(b"bye", b""))
    assert connection.protocol.ends == ["close_notify"]
    assert connection.transport.has_closed
    connection.incoming.write(bytes(connection.transport.sent))
    with suppress(ssl.SSLWantReadError):
        connection.server.unwrap()
        return
    pytest.fail("the server waits for close_notify")


def test_a_side_that_the_peer_has_ended_can_still_be_written_to(connect: Connect) -> None:
    """RFC 8446 §6.1: close_notify ends one direction."""
    connection = connect(ssl.TLSVersion.TLSv1_3)
    connection.shake_hands()
    connection.protocol.keeps_open = True
    connection.arrive(connection.encrypt(b"bye", b""))
    assert not connection.transport.is_closing()
    connection.stream.write(b"hello")
    assert connection.take() == b"hello"
    assert connection.stream.eof_received()
    connection.stream.close()
    assert not connection.stream.eof_received()


def test_after_this_side_has_ended_the_rest_of_the_peers_arrives(connect: Connect) -> None:
    connection = connect(ssl.TLSVersion.TLSv1_3)
    connection.shake_hands()
    assert connection.stream.can_write_eof()
    rest = connection.encrypt(b"the ", b"rest")
    connection.stream.write_eof()
    connection.stream.write(b"nothing is sent any more")
    connection.stream.write_eof()
    assert connection.take() == b""
    connection.arrive(rest + connection.encrypt(b""))
    connection.end()
    assert connection.protocol.data == b"the rest"
    assert connection.protocol.ends == ["close_notify", None]


def test_tls_1_2_cannot_end_one_side_alone(connect: Connect) -> None:
    """RFC 5246 §7.2.1: who gets close_notify closes at once."""
    connection = connect(ssl.TLSVersion.TLSv1_2)
    connection.shake_hands()
    assert not connection.stream.can_write_eof()


def test_a_protocol_that_closes_on_data_is_not_told_of_the_end_behind_it(connect: Connect) -> None:
    connection = connect(ssl.TLSVersion.TLSv1_3)
    connection.shake_hands()
    connection.protocol.on_data = connection.stream.abort
    connection.arrive(connection.encrypt(b"enough", b""))
    assert connection.protocol.ends == []
    connection.lose()
    assert connection.protocol.ends == [None]


def test_a_connection_that_breaks_says_how(connect: Connect) -> None:
    connection = connect(ssl.TLSVersion.TLSv1_3)
    connection.shake_hands()
    error = ConnectionResetError()
    connection.lose(error)
    assert connection.protocol.ends == [error]


def test_a_forged_record_is_answered_with_an_alert(connect: Connect) -> None:
    """RFC 8446 §5.2: bad_record_mac."""
    connection = connect(ssl.TLSVersion.TLSv1_3)
    connection.shake_hands()
    connection.arrive(b"\x17\x03\x03\x00\x20" + bytes(32))
    assert connection.transport.has_aborted
    connection.incoming.write(bytes(connection.transport.sent))
    with pytest.raises(ssl.SSLError, match=r"(?i)bad.record.mac"):
        connection.server.read()


def test_a_lost_connection_is_freed_at_once(connect: Connect) -> None:
    """OpenSSL's part of it is some 50 KiB: too much to wait for the garbage collector."""
    connection = connect(ssl.TLSVersion.TLSv1_3)
    connection.shake_hands()
    connection.arrive(b"\x17\x03\x03\x00\x20" + bytes(32))
    connection.lose()
    gone = weakref.ref(connection.stream._tls)
    gc.disable()
    try:
        del connection
        assert gone() is None
    finally:
        gc.enable()


# The handshake's failures.


def test_a_socket_that_ends_in_the_handshake_is_an_end(connect: Connect) -> None:
    connection = connect(ssl.TLSVersion.TLSv1_3)
    connection.end()
    assert isinstance(connection.stream.established.exception(), EOFError)
    assert connection.protocol.transport is None
    assert connection.protocol.ends == []


def test_a_socket_that_breaks_in_the_handshake_is_its_error(connect: Connect) -> None:
    connection = connect(ssl.TLSVersion.TLSv1_3)
    error = ConnectionResetError()
    connection.lose(error)
    assert connection.stream.established.exception() is error
    assert connection.protocol.ends == []


def test_a_peer_whose_certificate_is_refused_is_told(connect: Connect) -> None:
    connection = connect(ssl.TLSVersion.TLSv1_2)
    stranger = Contexts().servers[ssl.TLSVersion.TLSv1_2]
    connection.server = stranger.wrap_bio(connection.incoming, connection.outgoing, server_side=True)
    connection.incoming.write(bytes(connection.transport.sent))
    connection.transport.sent.clear()
    with suppress(ssl.SSLWantReadError):
        connection.server.do_handshake()
    connection.arrive(connection.outgoing.read())
    assert isinstance(connection.stream.established.exception(), ssl.SSLCertVerificationError)
    connection.incoming.write(bytes(connection.transport.sent))
    with pytest.raises(ssl.SSLError, match=r"(?i)unknown.ca"):
        connection.server.do_handshake()


def test_what_arrives_after_the_handshake_was_given_up_is_dropped(connect: Connect) -> None:
    connection = connect(ssl.TLSVersion.TLSv1_3)
    connection.incoming.write(bytes(connection.transport.sent))
    with suppress(ssl.SSLWantReadError):
        connection.server.do_handshake()
    connection.stream.established.cancel()
    connection.arrive(connection.outgoing.read())
    connection.stream.connection_lost(None)
    assert connection.protocol.transport is None
    assert connection.protocol.ends == []


# Flow.


def test_full_and_drained_are_passed_on(connect: Connect) -> None:
    connection = connect(ssl.TLSVersion.TLSv1_3)
    connection.shake_hands()
    connection.stream.pause_writing()
    connection.stream.resume_writing()
    assert connection.protocol.fullness == ["full", "drained"]


@pytest.mark.parametrize("ending", [b"", b"\x17\x03\x03\x00\x20" + bytes(32)], ids=["close_notify", "a forged record"])
def test_an_end_behind_the_data_on_which_the_protocol_stops_reading_waits(
    connect: Connect, loop: asyncio.AbstractEventLoop, ending: bytes
) -> None:
    """It is not done with the data; a plain transport would not have read the end yet either."""
    connection = connect(ssl.TLSVersion.TLSv1_3)
    connection.shake_hands()
    connection.protocol.on_data = connection.stream.pause_reading
    connection.arrive(connection.encrypt(b"much to do") + (ending or connection.encrypt(b"")))
    _let_run(loop)
    assert connection.protocol.ends == []
    assert not connection.transport.is_closing()
    connection.stream.resume_reading()
    connection.stream.pause_reading()
    _let_run(loop)
    assert not connection.transport.is_closing()
    connection.stream.resume_reading()
    _let_run(loop)
    assert connection.transport.is_closing()
    assert connection.protocol.ends == ([] if ending else ["close_notify"])


def test_what_waits_to_be_sent_is_counted(connect: Connect) -> None:
    connection = connect(ssl.TLSVersion.TLSv1_3)
    connection.shake_hands()
    assert connection.stream.get_write_buffer_size() == 0
    connection.transport.waiting = 1000
    assert connection.stream.get_write_buffer_size() == 1000


def test_reading_stops_and_goes_on_as_the_protocol_wants(connect: Connect) -> None:
    connection = connect(ssl.TLSVersion.TLSv1_3)
    connection.shake_hands()
    connection.stream.pause_reading()
    assert connection.transport.is_paused
    connection.stream.resume_reading()
    assert not connection.transport.is_paused


def _let_run(loop: asyncio.AbstractEventLoop) -> None:
    loop.call_soon(loop.stop)
    loop.run_forever()


def test_a_read_full_of_small_records_lets_others_go_first(connect: Connect, loop: asyncio.AbstractEventLoop) -> None:
    """Else 32 reads follow one another on uvloop: of records with one byte each, they take more than 100 ms."""
    connection = connect(ssl.TLSVersion.TLSv1_3)
    connection.shake_hands()
    connection.arrive(connection.encrypt(*[b"x"] * 5000)[:98304])
    assert connection.transport.is_paused
    _let_run(loop)
    assert not connection.transport.is_paused


def test_a_full_read_of_large_records_goes_on_at_once(connect: Connect) -> None:
    connection = connect(ssl.TLSVersion.TLSv1_3)
    connection.shake_hands()
    connection.arrive(connection.encrypt(*[bytes(16384)] * 7)[:98304])
    assert not connection.transport.is_paused


@pytest.mark.parametrize("has_closed", [False, True], ids=["stopped by the protocol", "closed by it"])
def test_reading_does_not_go_on_against_the_protocols_will(
    connect: Connect, loop: asyncio.AbstractEventLoop, has_closed: bool
) -> None:
    connection = connect(ssl.TLSVersion.TLSv1_3)
    connection.shake_hands()
    connection.protocol.on_data = connection.stream.abort if has_closed else connection.stream.pause_reading
    connection.arrive(connection.encrypt(*[b"x"] * 5000)[:98304])
    _let_run(loop)
    assert connection.transport.is_paused


class ReplyingTls:
    """In the place of OpenSSL: makes a reply of each record, as to a key update."""

    def __init__(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
        self._incoming, self._outgoing = incoming, outgoing

    def do_handshake(self) -> None:
        """Nothing is to be done."""

    def write(self, data: bytes) -> int:
        return self._outgoing.write(data)

    def read(self, *_: object) -> int:
        self._outgoing.write(self._incoming.read())
        raise ssl.SSLWantReadError


def record(length: int) -> bytes:
    return b"\x17\x03\x03" + length.to_bytes(2, "big") + bytes(length)


@pytest.fixture
def replying(loop: asyncio.AbstractEventLoop) -> tuple[TlsStream, PlainTransport, Protocol]:
    wrap: Any = ReplyingTls
    protocol, transport = Protocol(), PlainTransport()
    stream = TlsStream(protocol, wrap=wrap, buffers=TlsBuffers(), established=loop.create_future())
    stream.connection_made(transport)
    return stream, transport, protocol


def _arrive(stream: TlsStream, data: bytes) -> None:
    stream.get_buffer(-1)[: len(data)] = data
    stream.buffer_updated(len(data))


def test_replies_of_tls_itself_are_sent_at_once(replying: tuple[TlsStream, PlainTransport, Protocol]) -> None:
    stream, transport, _ = replying
    _arrive(stream, record(20))
    assert transport.sent == record(20)


def test_replies_wait_while_the_peer_does_not_read(replying: tuple[TlsStream, PlainTransport, Protocol]) -> None:
    stream, transport, protocol = replying
    stream.pause_writing()
    _arrive(stream, record(20))
    assert not transport.sent
    stream.resume_writing()
    assert transport.sent == record(20)
    assert protocol.fullness == ["full", "drained"]


def test_a_peer_that_makes_tls_reply_and_does_not_read_is_given_up(
    replying: tuple[TlsStream, PlainTransport, Protocol],
) -> None:
    """Key updates may be as many as the peer likes (RFC 8446 §4.6.3), but not what waits to be sent for them."""
    stream, transport, protocol = replying
    stream.pause_writing()
    for _ in range(4):
        _arrive(stream, record(16379))
        assert not transport.has_aborted
    _arrive(stream, record(20))
    assert transport.has_aborted
    stream.connection_lost(None)
    (error,) = protocol.ends
    assert isinstance(error, ConnectionAbortedError)
