"""Keys, assertions and certificates replaced beneath a running credential: one fetch with the new one, and no failure."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jwt
from joserfc.jwk import ECKey

from switch_proxy.core.config.models import AssertionSource, CredentialSettings, PrivateKeySettings, TlsSettings
from switch_proxy.tokens.client import TokenClient
from switch_proxy.tokens.manager import TokenManager
from switch_proxy.tokens.sources import credentials_from
from switch_proxy.watched_files import POLL_INTERVAL
from tests.authorization_server import RealAuthorizationServer, RegisteredClient
from tests.manual_clock import ManualClock, until
from tests.masking import ignore

if TYPE_CHECKING:
    from pathlib import Path

    from switch_proxy.core.events import CredentialEvent

CLUSTER: Final = ("https://cluster.example", "system:serviceaccount:shop:app")

_SLEEPERS_AT_REST: Final = 2
"""The timer of the next fetch, and the watch of the files."""


class _Method:
    """One method: its settings, and two versions of what it authenticates with, which the server knows."""

    def __init__(self, folder: Path, authority: trustme.CA) -> None:
        self.folder = folder
        self.authority = authority
        self.issuer = ""
        self._keys = [ECKey.import_key(ec.generate_private_key(ec.SECP256R1())) for _ in range(2)]

    def settings(self, name: str) -> dict[str, Any]:
        path = str(self.folder / "current")
        match name:
            case "private_key_jwt":
                return {"private_key": PrivateKeySettings(file=path)}
            case "client_assertion":
                return {"client_assertion": AssertionSource(file=path)}
        tls = TlsSettings(ca_file=str(self.folder / "ca.pem"), client_certificate_file=path)
        return {"tls": tls}

    def publish(self, name: str, version: int) -> RegisteredClient:
        """Replace the file by a rename, and return the client as the server knows it from then on."""
        key = self._keys[version]
        client: dict[str, Any] = {"key": key, "algorithm": "ES256"}
        match name:
            case "private_key_jwt":
                content = key.as_pem(private=True)
            case "client_assertion":
                content = self._assertion(version)
                client |= {"workload": CLUSTER, "key": self._keys[0]}
            case _:
                content = self.authority.issue_cert(
                    common_name=f"version-{version}"
                ).private_key_and_cert_chain_pem.bytes()
                client |= {"certificate_subject": f"version-{version}"}
        temporary = self.folder / "new"
        temporary.write_bytes(content)
        temporary.rename(self.folder / "current")
        return RegisteredClient(client_id="the-client", method=name, **client)

    def _assertion(self, version: int) -> bytes:
        now = int(datetime.now(UTC).timestamp())
        claims = {"iss": CLUSTER[0], "sub": CLUSTER[1], "aud": self.issuer, "exp": now + 600, "jti": str(version)}
        return jwt.encode({"alg": "ES256"}, claims, self._keys[0]).encode()


class _Events(list["CredentialEvent"]):
    def on_event(self, event: CredentialEvent) -> None:
        self.append(event)


@pytest.mark.parametrize("name", ["private_key_jwt", "client_assertion", "tls_client_auth"])
async def test_what_authenticates_may_be_replaced_at_any_time(tmp_path: Path, name: str) -> None:
    """
    The watch sees it, one token is fetched with it, and the token before it serves until then.

    An assertion that others renew every hour is no reason for another token; the next refresh uses it.
    """
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    # Assertions have times, and the server's clock is real.
    clock = ManualClock(wall_ahead=datetime.now(UTC).timestamp() - 1000.0)
    method = _Method(tmp_path, authority)
    async with RealAuthorizationServer().serving(authority, clients=authority.cert_pem.bytes()) as server:
        method.issuer = server.issuer
        server.clients["the-client"] = method.publish(name, 0)
        settings = CredentialSettings(
            **{
                "issuer": server.issuer,
                "client_id": "the-client",
                "auth_method": name,
                "tls": TlsSettings(ca_file=str(tmp_path / "ca.pem")),
                **method.settings(name),
            }
        )
        async with TokenClient(settings=settings, clock=clock, mask=ignore) as client:
            manager = TokenManager(
                name="switch",
                settings=settings,
                fetcher=client,
                credential_source=credentials_from(settings, environ={}, clock=clock, mask=ignore),
                clock=clock,
                random=lambda: 0.5,
                observer=_Events(),
            )
            task = asyncio.get_running_loop().create_task(manager.run())

            async def rest() -> None:
                await until(lambda: clock.sleepers == _SLEEPERS_AT_REST)

            try:
                await rest()
                assert _generation(manager) == 1
                server.clients["the-client"] = method.publish(name, 1)
                for _ in range(3):
                    await clock.advance(POLL_INTERVAL)
                    await rest()
                if name == "client_assertion":
                    assert _generation(manager) == 1
                    await clock.advance((manager.status().refresh_at or 0.0) - clock.now())
                    await rest()
                assert _generation(manager) == 2, manager.status().last_error
                assert manager.status().fetches == {"ok": 2}
                assert server.issued == 2
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


def _generation(manager: TokenManager) -> int | None:
    token = manager.peek()
    return None if token is None else token.generation
