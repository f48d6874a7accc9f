"""TLS files of a route that are replaced, broken and mended while it runs."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from switch_proxy.core.config.models import TlsSettings
from switch_proxy.core.events import TlsBroken, TlsReloaded, TlsRestored
from switch_proxy.watched_files import POLL_INTERVAL
from tests.shell.http1.certificates import Certificates
from tests.shell.http1.raw_peer import TlsStream, working
from tests.shell.http1.raw_upstream import RawUpstream
from tests.shell.http1.test_broken_upstreams import kind
from tests.shell.http1.world import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from switch_proxy.core.events import RouteEvent
    from tests.shell.http1.conftest import StartWorld
    from tests.shell.http1.raw_client import RawClient
    from tests.shell.http1.raw_upstream import UpstreamSide
    from tests.shell.http1.world import World

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class Rotation:
    """A route with a client certificate that is watched, and what has become of its files."""

    def __init__(self, world: World, certificates: Certificates, settings: TlsSettings) -> None:
        self.world = world
        self.events: list[RouteEvent] = []
        self.certificate = Path(settings.client_certificate_file or "")
        self.key = Path(settings.client_key_file or "")
        self._authority = certificates.authority

    def publish(self, name: str) -> None:
        """Replace the client certificate and its key by those of another name."""
        certificate = self._authority.issue_cert(common_name=name)
        self.certificate.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
        self.key.write_bytes(certificate.private_key_pem.bytes())

    async def look(self, count: int) -> RouteEvent:
        """Let the next look at the files happen, and return the event it makes, the `count`-th of all."""
        self.world.clock.skip(POLL_INTERVAL)
        await until(lambda: len(self.events) == count, lambda: f"{self.events}")
        return self.events[-1]


@asynccontextmanager
async def rotating(start_world: StartWorld, certificates: Certificates, **settings: Any) -> AsyncIterator[Rotation]:
    """Run a route whose upstream wants a client certificate, with the one of `first` to begin with."""
    context = certificates.server(clients=certificates.authority)
    tls = TlsSettings(ca_file=certificates.ca_file, **certificates.client_files())
    world = await start_world(upstream=RawUpstream(tls=context), tls=tls, **settings)
    rotation = Rotation(world, certificates, tls)
    async with working(world.route.follow_tls_files(rotation.events.append)):
        # The first reading is over.
        await until(lambda: world.clock.sleepers == 1, lambda: "nobody watches the files")
        yield rotation


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(authority=trustme.CA(), stranger=trustme.CA(), folder=tmp_path)


def name_shown(server: UpstreamSide) -> str:
    """Return the name in the client certificate that a connection was opened with."""
    assert isinstance(server.stream, TlsStream)
    certificate: dict[str, Any] | None = server.stream.tls.getpeercert()
    assert certificate is not None
    names: dict[str, str] = dict(part for (part,) in certificate["subject"])
    return names["commonName"]


def is_resumed(server: UpstreamSide) -> bool | None:
    assert isinstance(server.stream, TlsStream)
    return server.stream.tls.session_reused


async def finish(client: RawClient, server: UpstreamSide) -> None:
    await server.send(OK)
    assert (await client.receive_response()).body == b"hi"


async def test_new_connections_show_the_new_certificate_and_idle_ones_are_dropped(
    start_world: StartWorld, certificates: Certificates
) -> None:
    async with rotating(start_world, certificates) as rotation:
        client, server, _ = await rotation.world.begin(GET)
        assert name_shown(server) == "switch-proxy"
        await finish(client, server)
        rotation.publish("second")
        event = await rotation.look(1)
        assert event == TlsReloaded(route="switch-api", source=f"the file {rotation.certificate}")
        assert rotation.world.snapshot().upstream_idle == 0
        client, server, _ = await rotation.world.begin(GET)
        assert name_shown(server) == "second"
        assert not is_resumed(server)
        await finish(client, server)


async def test_a_request_under_way_is_finished_and_its_connection_is_not_used_again(
    start_world: StartWorld, certificates: Certificates
) -> None:
    """Nor is the session that comes with its response: it belongs to the files before."""
    async with rotating(start_world, certificates) as rotation:
        client, server, _ = await rotation.world.begin(GET)
        rotation.publish("second")
        await rotation.look(1)
        await finish(client, server)
        await rotation.world.until(lambda now: (now.upstream_busy, now.upstream_idle) == (0, 0))
        for resumed in (False, True):
            client, server, _ = await rotation.world.begin(GET)
            assert (name_shown(server), is_resumed(server)) == ("second", resumed)
            await finish(client, server)
            await server.close()
            await rotation.world.until(lambda now: now.upstream_idle == 0)


async def test_another_authority_is_trusted_from_then_on(start_world: StartWorld, certificates: Certificates) -> None:
    async with rotating(start_world, certificates) as rotation:
        certificates.stranger.cert_pem.write_to_path(certificates.ca_file)
        await rotation.look(1)
        rotation.world.upstream.tls = certificates.server(issuer=certificates.stranger)
        client, server, _ = await rotation.world.begin(GET)
        await finish(client, server)


async def test_files_that_cannot_be_used_leave_the_last_good_ones_in_use_until_they_can(
    start_world: StartWorld, certificates: Certificates
) -> None:
    """A certificate before its key is half of a rotation. What stays broken is told once."""
    async with rotating(start_world, certificates) as rotation:
        client, server, _ = await rotation.world.begin(GET)
        await finish(client, server)
        key = rotation.key.read_bytes()
        rotation.publish("second")
        second_key = rotation.key.read_bytes()
        rotation.key.write_bytes(key)
        broken = await rotation.look(1)
        assert isinstance(broken, TlsBroken)
        assert broken.error == (
            f"tls.client_certificate_file of route 'switch-api' cannot be used: the file {rotation.certificate} cannot be loaded as a "
            "certificate and its key in PEM form, without a password: "
            "key values mismatch"
        )
        assert rotation.world.snapshot().tls_error == broken.error
        # The connection is still in the pool, and a new one is opened with the files before.
        assert rotation.world.snapshot().upstream_idle == 1
        await server.close()
        await rotation.world.until(lambda now: now.upstream_idle == 0)
        client, server, _ = await rotation.world.begin(GET)
        assert name_shown(server) == "switch-proxy"
        await finish(client, server)
        rotation.key.unlink()
        missing = await rotation.look(2)
        assert isinstance(missing, TlsBroken)
        assert missing.error.endswith(f"the file {rotation.key} does not exist")
        rotation.key.write_bytes(second_key)
        assert isinstance(await rotation.look(3), TlsReloaded)
        assert rotation.world.snapshot().tls_error is None
        client, server, _ = await rotation.world.begin(GET)
        assert name_shown(server) == "second"
        await finish(client, server)


async def test_the_files_in_use_that_come_back_drop_no_connection(
    start_world: StartWorld, certificates: Certificates
) -> None:
    async with rotating(start_world, certificates) as rotation:
        client, server, _ = await rotation.world.begin(GET)
        await finish(client, server)
        certificate = rotation.certificate.read_bytes()
        rotation.certificate.write_text("no certificate")
        assert isinstance(await rotation.look(1), TlsBroken)
        rotation.certificate.write_bytes(certificate)
        assert await rotation.look(2) == TlsRestored(route="switch-api", source=f"the file {rotation.certificate}")
        assert rotation.world.snapshot().upstream_idle == 1


async def test_files_that_were_replaced_before_anybody_watched_are_taken_up(
    start_world: StartWorld, certificates: Certificates
) -> None:
    """They are read when the listener is bound, and watched a moment later."""
    tls = TlsSettings(ca_file=certificates.ca_file, **certificates.client_files())
    world = await start_world(upstream=RawUpstream(tls=certificates.server(clients=certificates.authority)), tls=tls)
    rotation = Rotation(world, certificates, tls)
    rotation.publish("second")
    async with working(world.route.follow_tls_files(rotation.events.append)):
        assert isinstance(await rotation.look(1), TlsReloaded)


async def test_a_route_without_tls_files_has_nothing_to_follow(
    start_world: StartWorld, certificates: Certificates
) -> None:
    for world in (await start_world(), await start_world(upstream=RawUpstream(tls=certificates.server()))):
        async with asyncio.timeout(10):
            await world.route.follow_tls_files(lambda event: pytest.fail(f"{event}"))


async def test_a_connection_waits_for_files_that_the_start_did_not_wait_for(
    start_world: StartWorld, certificates: Certificates
) -> None:
    """Without a context there is no connection, least of all a plain one."""
    tls = TlsSettings(ca_file=certificates.ca_file)
    world = await start_world(upstream=RawUpstream(tls=certificates.server()), tls=tls)
    # As after a start during which they hung.
    world.route.connector._tls = None
    client, server, _ = await world.begin(GET)
    assert isinstance(server.stream, TlsStream)
    await finish(client, server)


async def test_files_that_still_cannot_be_read_are_a_502(start_world: StartWorld, certificates: Certificates) -> None:
    tls = TlsSettings(ca_file=certificates.ca_file)
    world = await start_world(upstream=RawUpstream(tls=certificates.server()), tls=tls)
    world.route.connector._tls = None
    await asyncio.to_thread(Path(certificates.folder, "ca.pem").unlink)
    client = await world.client()
    await client.send(GET)
    response = await client.receive_response()
    assert kind(response) == (502, "upstream-tls")
    assert b"ca.pem does not exist" in response.body
