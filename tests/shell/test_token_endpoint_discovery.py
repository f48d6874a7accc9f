"""The token endpoint by its issuer, read from a real authorization server; and the way to it through an egress proxy."""

from __future__ import annotations

import asyncio
import base64
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
import trustme

from switch_proxy.core.backoff import Lane
from switch_proxy.core.config.models import CredentialSettings, SecretSource, TlsSettings
from switch_proxy.core.errors import (
    InvalidValueError,
    TokenEndpointUnavailableError,
    TokenRequestRefusedError,
    TokenResponseInvalidError,
)
from switch_proxy.core.lifecycle import lane_of
from switch_proxy.core.oauth.discovery import METADATA_LIFETIME
from switch_proxy.core.secret import Secret
from switch_proxy.tokens.client import TokenClient
from tests.authorization_server import RealAuthorizationServer, RegisteredClient
from tests.manual_clock import ManualClock
from tests.masking import Masked, ignore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from switch_proxy.core.secret import Mask

SECRET: Final = Secret("zebra-quilt-vortex-secret")
CLIENT: Final = RegisteredClient(client_id="the-client", method="client_secret_post", secret=SECRET.reveal())
RFC_8414: Final = "/.well-known/oauth-authorization-server"
OPENID: Final = "/.well-known/openid-configuration"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@asynccontextmanager
async def _world(
    folder: Path, authority: trustme.CA, clock: ManualClock | None = None, **settings: Any
) -> AsyncIterator[tuple[RealAuthorizationServer, TokenClient]]:
    """Run a server, and a client that knows its issuer."""
    authority.cert_pem.write_to_path(folder / "ca.pem")
    async with RealAuthorizationServer(CLIENT).serving(authority) as server:
        credential = CredentialSettings(
            issuer=server.issuer,
            client_id="the-client",
            client_secret=SecretSource(env="X"),
            tls=TlsSettings(ca_file=str(folder / "ca.pem")),
            **settings,
        )
        async with TokenClient(settings=credential, clock=clock or ManualClock(), mask=ignore) as client:
            yield server, client


async def test_the_endpoint_is_found_once_and_kept(tmp_path: Path, authority: trustme.CA) -> None:
    async with _world(tmp_path, authority) as (server, client):
        for _ in range(3):
            await client.fetch(SECRET)
    assert (server.issued, server.paths) == (3, [RFC_8414])


async def test_openid_metadata_do_as_well(tmp_path: Path, authority: trustme.CA) -> None:
    async with _world(tmp_path, authority) as (server, client):
        server.metadata_path = OPENID
        await client.fetch(SECRET)
    assert (server.issued, server.paths) == (1, [RFC_8414, OPENID])


@pytest.mark.parametrize("status", [302, 403, 404, 429, 500, 503])
async def test_the_second_place_is_asked_whatever_the_first_responds_with(
    tmp_path: Path, authority: trustme.CA, status: int
) -> None:
    """Routers respond with 503 to a path that they have no backend for."""
    async with _world(tmp_path, authority) as (server, client):
        server.metadata_path, server.other_status = OPENID, status
        await client.fetch(SECRET)
    assert (server.issued, server.paths) == (1, [RFC_8414, OPENID])


async def test_the_second_place_is_asked_if_the_first_is_of_another_issuer(
    tmp_path: Path, authority: trustme.CA
) -> None:
    async with _world(tmp_path, authority) as (server, client):
        server.metadata_path = OPENID
        server.other_document = {"issuer": "https://another.example", "token_endpoint": "https://another.example/t"}
        await client.fetch(SECRET)
    assert (server.issued, server.paths) == (1, [RFC_8414, OPENID])


async def test_the_second_place_is_asked_if_the_first_hangs(tmp_path: Path, authority: trustme.CA) -> None:
    async with _world(tmp_path, authority, timeout=2.0) as (server, client):
        server.metadata_path, server.other_hangs = OPENID, True
        await client.fetch(SECRET)
    assert (server.issued, server.paths) == (1, [RFC_8414, OPENID])


async def test_an_issuer_that_is_unwell_at_both_places_is_told(tmp_path: Path, authority: trustme.CA) -> None:
    async with _world(tmp_path, authority) as (server, client):
        server.metadata_path, server.other_status = "/nowhere", 503
        with pytest.raises(TokenEndpointUnavailableError, match="it responded with 503 Service Unavailable") as caught:
            await client.fetch(SECRET)
        assert caught.value.__context__ is None
    assert server.paths == [RFC_8414, OPENID]


async def test_an_issuer_without_metadata_is_told(tmp_path: Path, authority: trustme.CA) -> None:
    async with _world(tmp_path, authority) as (server, client):
        server.metadata_path = "/nowhere"
        with pytest.raises(
            TokenResponseInvalidError, match="the issuer has no metadata at https://localhost:"
        ) as caught:
            await client.fetch(SECRET)
        assert caught.value.__context__ is None
    assert server.bodies == []


async def test_metadata_of_another_issuer_get_no_secret(tmp_path: Path, authority: trustme.CA) -> None:
    async with _world(tmp_path, authority) as (server, client):
        server.metadata = {"issuer": server.issuer + "/"}
        with pytest.raises(TokenResponseInvalidError, match="not the configured one"):
            await client.fetch(SECRET)
    assert server.bodies == []


async def test_metadata_are_read_anew_after_a_day(tmp_path: Path, authority: trustme.CA) -> None:
    clock = ManualClock()
    async with _world(tmp_path, authority, clock) as (server, client):
        await client.fetch(SECRET)
        clock.skip(METADATA_LIFETIME - 1.0)
        await client.fetch(SECRET)
        assert len(server.paths) == 1
        clock.skip(1.0)
        await client.fetch(SECRET)
        assert len(server.paths) == 2
        await client.fetch(SECRET)
        assert len(server.paths) == 2


async def test_metadata_that_cannot_be_read_anew_leave_what_was_found_in_use(
    tmp_path: Path, authority: trustme.CA
) -> None:
    """And they are tried again at each fetch until they can."""
    clock = ManualClock()
    async with _world(tmp_path, authority, clock) as (server, client):
        await client.fetch(SECRET)
        server.metadata_path = "/nowhere"
        clock.skip(METADATA_LIFETIME)
        await client.fetch(SECRET)
        await client.fetch(SECRET)
    assert server.issued == 3
    assert server.paths == [RFC_8414, *[RFC_8414, OPENID] * 2]


async def test_an_endpoint_that_moved_is_found_after_one_failure(tmp_path: Path, authority: trustme.CA) -> None:
    """If a fetch fails for another reason than a refused client, its endpoint may be wrong."""
    async with _world(tmp_path, authority) as (server, client):
        server.metadata = {"token_endpoint": f"{server.origin}/old-place"}
        with pytest.raises(TokenRequestRefusedError, match="405"):
            await client.fetch(SECRET)
        server.metadata = {}
        await client.fetch(SECRET)
    assert (server.issued, server.paths) == (1, [RFC_8414, RFC_8414])


async def test_a_refused_client_does_not_doubt_the_endpoint(tmp_path: Path, authority: trustme.CA) -> None:
    async with _world(tmp_path, authority) as (server, client):
        for _ in range(2):
            with pytest.raises(TokenRequestRefusedError, match="invalid_client"):
                await client.fetch(Secret("wrong"))
    assert server.paths == [RFC_8414]


# --- through an egress proxy ---------------------------------------------------------------------------------------


class EgressProxy:
    """An HTTP proxy that opens a tunnel to one address for every request, or gives another response."""

    def __init__(self, port: int, answer: bytes = b"HTTP/1.1 200 OK\r\n\r\n") -> None:
        self._port = port
        self._answer = answer
        self.heads: list[bytes] = []

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as server:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self._answer)
            if b" 200 " in self._answer:
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(_pump(reader, far_writer))
                    tasks.create_task(_pump(far_reader, writer))
        finally:
            writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
    except ConnectionError:
        pass  # one end has gone, and so does the other
    finally:
        writer.close()


def _client_behind(folder: Path, authority: trustme.CA, proxy: str, mask: Mask = ignore, **environ: str) -> TokenClient:
    authority.cert_pem.write_to_path(folder / "ca.pem")
    settings = CredentialSettings(
        token_url="https://login.example.com/token",
        client_id="the-client",
        client_secret=SecretSource(env="X"),
        tls=TlsSettings(ca_file=str(folder / "ca.pem"), server_name="localhost"),
    )
    return TokenClient(
        settings=settings, clock=ManualClock(), mask=mask, environ={"HTTPS_PROXY": f"http://{proxy}", **environ}
    )


async def test_the_token_endpoint_is_reached_through_the_egress_proxy(tmp_path: Path, authority: trustme.CA) -> None:
    """A tunnel: the proxy gets the address and its own password, and sees neither secret nor token."""
    masked = Masked()
    async with RealAuthorizationServer(CLIENT).serving(authority) as server:
        egress = EgressProxy(int(server.origin.rpartition(":")[2]))
        async with (
            egress.serving() as address,
            _client_behind(tmp_path, authority, f"someone:a%20password@{address}", masked) as client,
        ):
            assert [kind for kind, _ in masked.secrets] == ["egress proxy"]
            assert (await client.fetch(SECRET)).value == Secret("token-1")
            assert client.egress_proxy is not None
            assert masked.secrets[0][1] == client.egress_proxy.authorization
            assert client.egress_proxy.authorization is not None
    (head,) = egress.heads
    assert head.startswith(b"CONNECT login.example.com:443 HTTP/1.1\r\n")
    credentials = base64.b64encode(b"someone:a password")
    assert b"\r\nProxy-Authorization: Basic " + credentials + b"\r\n" in head
    assert "Proxy-Authorization" not in server.fields[0]


async def test_an_egress_proxy_that_refuses_is_told_as_such(tmp_path: Path, authority: trustme.CA) -> None:
    egress = EgressProxy(0, b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
    async with egress.serving() as address, _client_behind(tmp_path, authority, address) as client:
        with pytest.raises(TokenEndpointUnavailableError) as caught:
            await client.fetch(SECRET)
    assert (
        str(caught.value)
        == f"the egress proxy {address} responded with 407 to the request for a tunnel to login.example.com:443"
    )


async def test_an_egress_proxy_that_asks_for_fewer_requests_is_heeded(tmp_path: Path, authority: trustme.CA) -> None:
    """It is not the client's quota of tokens; but it is not asked again within a second either."""
    egress = EgressProxy(0, b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 300\r\nContent-Length: 0\r\n\r\n")
    async with egress.serving() as address, _client_behind(tmp_path, authority, address) as client:
        with pytest.raises(TokenEndpointUnavailableError, match="responded with 429 to the request") as caught:
            await client.fetch(SECRET)
    assert (lane_of(caught.value), caught.value.retry_after) == (Lane.EXHAUSTED, 300.0)


async def test_an_egress_proxy_that_is_not_there_is_told_as_such(tmp_path: Path, authority: trustme.CA) -> None:
    async with EgressProxy(0).serving() as address:
        pass
    async with _client_behind(tmp_path, authority, address) as client:
        with pytest.raises(TokenEndpointUnavailableError, match=f"no connection to the egress proxy {address}"):
            await client.fetch(SECRET)


@pytest.mark.parametrize("no_proxy", ["login.example.com", ".example.com", "*"])
def test_no_proxy_is_heeded(tmp_path: Path, authority: trustme.CA, no_proxy: str) -> None:
    assert _client_behind(tmp_path, authority, "10.0.0.1:3128", NO_PROXY=no_proxy).egress_proxy is None


def test_an_egress_proxy_that_cannot_be_used_is_told_at_the_start(tmp_path: Path, authority: trustme.CA) -> None:
    with pytest.raises(InvalidValueError, match="HTTPS_PROXY is not the address of an HTTP proxy"):
        _client_behind(tmp_path, authority, "10.0.0.1:nothing")
