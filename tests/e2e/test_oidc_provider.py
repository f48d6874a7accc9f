"""npm's oidc-provider as the authorization server: each way in, a rotation, a revocation, tokens that live three seconds."""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
import trustme
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc.jwk import ECKey

from tests.e2e.peers import server
from tests.e2e.proxy_process import proxy_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import aiohttp

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(not server.has_node_modules(), reason="npm's packages: not installed (make peers)"),
]

SECRET: Final = "zebra-quilt-vortex-secret-of-many-bytes"
ANOTHER: Final = "vortex-zebra-quilt-secret-of-many-bytes"


class Provider:
    """The process, with the clients `the-client` of some method."""

    def __init__(self, process: asyncio.subprocess.Process, urls: dict[str, str]) -> None:
        self._process = process
        self.issuer, self.api = urls["issuer"], urls["api"]

    async def command(self, text: str) -> int:
        """Give it a command; return the number of tokens that it has issued so far."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{text}\n".encode())
        async with asyncio.timeout(server.WITHIN):
            issued: int = json.loads(await self._process.stdout.readline())["issued"]
        return issued


@asynccontextmanager
async def provider(
    *, lifetime: int = 3600, tls: dict[str, str] | None = None, **client: Any
) -> AsyncIterator[Provider]:
    client = {"client_id": "the-client", "client_secret": SECRET, **client}
    settings = {"lifetime": lifetime, "clients": [client], **(tls or {})}
    process = await asyncio.create_subprocess_exec(
        *("node", str(server.HERE / "provider.mjs"), json.dumps(settings)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(server.WITHIN):
            yield Provider(process, json.loads(await process.stdout.readline()))
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def configure(folder: Path, auth: Provider, **credential: Any) -> Path:
    (folder / "secret").write_text(SECRET)
    keys = {"issuer": auth.issuer, "client_id": "the-client", "scope": "read", **credential}
    if keys.get("auth_method", "client_secret_post").startswith("client_secret"):
        keys["client_secret"] = {"file": str(folder / "secret")}
    settings = {
        "credentials": {"switch": keys},
        "routes": [{"name": "api", "listen": "127.0.0.1:0", "upstream": auth.api, "credential": "switch"}],
        "admin": {"listen": "127.0.0.1:0"},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


async def call(client: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    """Send a request through the proxy; it must be taken by the API."""
    async with client.get(url) as response:
        assert response.status == 200, await response.text()
        told: dict[str, Any] = json.loads(await response.text())
        assert (told["client"], told["scope"]) == ("the-client", "read")
        return told


@pytest.mark.parametrize("method", ["client_secret_post", "client_secret_basic", "client_secret_jwt"])
async def test_a_client_with_a_secret_is_served(tmp_path: Path, client: aiohttp.ClientSession, method: str) -> None:
    async with (
        provider(token_endpoint_auth_method=method) as auth,
        proxy_process(configure(tmp_path, auth, auth_method=method)) as proxy,
    ):
        await proxy.event("proxy.became_ready")
        await call(client, await proxy.url("api"))


@pytest.mark.parametrize("typ", ["JWT", "client-authentication+jwt"])
async def test_a_client_with_a_private_key_is_served(tmp_path: Path, client: aiohttp.ClientSession, typ: str) -> None:
    key = ECKey.import_key(ec.generate_private_key(ec.SECP256R1()))
    (tmp_path / "key.pem").write_bytes(key.as_pem(private=True))
    jwks = {"keys": [dict(key.as_dict(private=False), use="sig")]}
    async with provider(token_endpoint_auth_method="private_key_jwt", jwks=jwks) as auth:
        section = {"private_key": {"file": str(tmp_path / "key.pem")}, "assertion_typ": typ}
        async with proxy_process(configure(tmp_path, auth, auth_method="private_key_jwt", **section)) as proxy:
            await proxy.event("proxy.became_ready")
            await call(client, await proxy.url("api"))


@pytest.mark.parametrize("method", ["tls_client_auth", "self_signed_tls_client_auth"])
async def test_a_client_with_a_certificate_is_served(
    tmp_path: Path, client: aiohttp.ClientSession, method: str
) -> None:
    """Key and chain in one file."""
    authority = trustme.CA()
    shown = authority.issue_cert(common_name="the-client.example")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    shown.private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    certificate = x509.load_pem_x509_certificate(shown.cert_chain_pems[0].bytes())
    registered: dict[str, Any] = {"tls_client_auth_subject_dn": _subject_in_node(certificate)}
    if method == "self_signed_tls_client_auth":
        public = certificate.public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        chain = base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()
        registered = {"jwks": {"keys": [dict(ECKey.import_key(public).as_dict(private=False), x5c=[chain])]}}
    files = {"certificate": str(tmp_path / "server.pem"), "authority": str(tmp_path / "ca.pem")}
    async with provider(tls=files, token_endpoint_auth_method=method, **registered) as auth:
        tls = {"ca_file": str(tmp_path / "ca.pem"), "client_certificate_file": str(tmp_path / "client.pem")}
        async with proxy_process(configure(tmp_path, auth, auth_method=method, tls=tls)) as proxy:
            await proxy.event("proxy.became_ready")
            await call(client, await proxy.url("api"))


def _subject_in_node(certificate: x509.Certificate) -> str:
    """Return the subject as Node shows it: an attribute a line, in the order of the certificate."""
    names = {
        x509.NameOID.COMMON_NAME: "CN",
        x509.NameOID.ORGANIZATION_NAME: "O",
        x509.NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    }
    return "\n".join(f"{names[attribute.oid]}={attribute.value!s}" for attribute in certificate.subject)


async def test_a_rotated_secret_is_used_without_a_failed_request(tmp_path: Path, client: aiohttp.ClientSession) -> None:
    async with (
        provider(token_endpoint_auth_method="client_secret_post") as auth,
        proxy_process(configure(tmp_path, auth)) as proxy,
    ):
        await proxy.event("proxy.became_ready")
        url = await proxy.url("api")
        first = await call(client, url)
        await auth.command(f"secret {ANOTHER}")
        (tmp_path / "secret").write_text(ANOTHER)
        await proxy.event("secret.reloaded")
        await proxy.event("token.refreshed", generation=2)
        assert (await call(client, url))["token"] != first["token"]
    assert "token.refresh_failed" not in proxy.event_names


async def test_a_wrong_secret_is_refused_with_the_servers_reason(tmp_path: Path) -> None:
    async with (
        provider(token_endpoint_auth_method="client_secret_post", client_secret=ANOTHER) as auth,
        proxy_process(configure(tmp_path, auth)) as proxy,
    ):
        failed = await proxy.event("token.refresh_failed")
    assert failed["outcome"] == "refused"
    assert "401 Unauthorized: invalid_client" in failed["error"]
    assert "check client_id and the client secret" in failed["error"]


async def test_a_revoked_token_is_replaced_within_the_request(tmp_path: Path, client: aiohttp.ClientSession) -> None:
    """The API says 401 with a challenge of RFC 6750; the app does not see it."""
    async with (
        provider(token_endpoint_auth_method="client_secret_post") as auth,
        proxy_process(configure(tmp_path, auth)) as proxy,
    ):
        await proxy.event("proxy.became_ready")
        url = await proxy.url("api")
        first = await call(client, url)
        await auth.command("revoke")
        assert (await call(client, url))["token"] != first["token"]
        assert await auth.command("count") == 2


async def test_tokens_of_three_seconds_are_replaced_while_requests_go_on(
    tmp_path: Path, client: aiohttp.ClientSession
) -> None:
    tokens: set[str] = set()
    async with (
        provider(token_endpoint_auth_method="client_secret_post", lifetime=3) as auth,
        proxy_process(configure(tmp_path, auth)) as proxy,
    ):
        await proxy.event("proxy.became_ready")
        url = await proxy.url("api")
        while len(tokens) < 4:
            tokens.add((await call(client, url))["token"])
            await asyncio.sleep(0.02)
        assert "request.failed" not in proxy.event_names
