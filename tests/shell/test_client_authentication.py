"""Every way in, tried at a real authorization server that verifies what it is shown."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from joserfc import jwt
from joserfc.jwk import ECKey, KeyBase, OctKey, OKPKey, RSAKey

from switch_proxy.clock import SystemClock
from switch_proxy.core.config.models import (
    AssertionSource,
    CredentialSettings,
    PrivateKeySettings,
    SecretSource,
    TlsSettings,
)
from switch_proxy.core.errors import SecretUnavailableError, TokenRequestRefusedError
from switch_proxy.demo.auth_server import FakeAuthorizationServer
from switch_proxy.tokens.client import TokenClient
from switch_proxy.tokens.sources import credentials_from
from tests.authorization_server import RealAuthorizationServer, RegisteredClient
from tests.manual_clock import ManualClock
from tests.masking import ignore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from switch_proxy.clock import Clock
    from switch_proxy.core.tokens import TokenGrant

SECRET: Final = "zebra-quilt-vortex-secret-of-many-bytes"
CLUSTER: Final = "https://kubernetes.default.svc.cluster.local"
WORKLOAD: Final = "system:serviceaccount:shop:app"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def keys() -> dict[str, KeyBase]:
    """A key for each algorithm."""
    rsa_key = RSAKey.import_key(rsa.generate_private_key(public_exponent=65537, key_size=2048))
    return {
        "RS256": rsa_key,
        "PS256": rsa_key,
        "ES256": ECKey.import_key(ec.generate_private_key(ec.SECP256R1())),
        "EdDSA": OKPKey.import_key(ed25519.Ed25519PrivateKey.generate()),
    }


def _pem(key: Any) -> str:
    return str(key.as_pem(private=True).decode("ascii"))


def _client(method: str, **what: Any) -> RegisteredClient:
    return RegisteredClient(client_id="the-client", method=method, **what)


async def _fetch(
    server: RealAuthorizationServer, folder: Path, *, times: int = 1, clock: Clock | None = None, **settings: Any
) -> list[TokenGrant]:
    """Fetch tokens as the proxy does: read the client credential, then request a token."""
    tls = {"ca_file": str(folder / "ca.pem"), **settings.pop("tls", {})}
    endpoint = {} if "issuer" in settings else {"token_url": server.token_url}
    credential = CredentialSettings(tls=TlsSettings(**tls), **{"client_id": "the-client", **endpoint, **settings})
    clock = clock or SystemClock()
    source = credentials_from(credential, environ={"SECRET": SECRET}, clock=clock, mask=ignore)
    await source.load()
    async with TokenClient(settings=credential, clock=clock, mask=ignore) as client:
        return [await client.fetch(source.current()) for _ in range(times)]


@asynccontextmanager
async def _server(
    folder: Path, authority: trustme.CA, *clients: RegisteredClient, trusted: bytes = b""
) -> AsyncIterator[RealAuthorizationServer]:
    authority.cert_pem.write_to_path(folder / "ca.pem")
    async with RealAuthorizationServer(*clients).serving(authority, clients=trusted) as server:
        yield server


# --- with a secret -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["client_secret_post", "client_secret_basic", "client_secret_jwt"])
async def test_a_client_with_a_secret_gets_tokens(tmp_path: Path, authority: trustme.CA, method: str) -> None:
    client = _client(method, secret=SECRET, key=OctKey.import_key(SECRET), algorithm="HS256")
    async with _server(tmp_path, authority, client) as server:
        grants = await _fetch(
            server, tmp_path, times=2, auth_method=method, client_secret=SecretSource(env="SECRET"), scope="a b"
        )
    assert [grant.value.reveal() for grant in grants] == ["token-1", "token-2"]
    assert server.forms[0]["scope"] == "a b"


@pytest.mark.parametrize("method", ["client_secret_post", "client_secret_basic", "client_secret_jwt"])
async def test_a_client_with_a_wrong_secret_is_refused_as_such(
    tmp_path: Path, authority: trustme.CA, method: str
) -> None:
    """And the error says that the client was refused, not its request."""
    client = _client(method, secret="x" * 40, key=OctKey.import_key("x" * 40), algorithm="HS256")
    async with _server(tmp_path, authority, client) as server:
        with pytest.raises(TokenRequestRefusedError, match="check client_id and the client secret") as caught:
            await _fetch(server, tmp_path, auth_method=method, client_secret=SecretSource(env="SECRET"))
    assert caught.value.is_about_client


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_jwt"])
async def test_the_secret_itself_is_not_in_the_body(tmp_path: Path, authority: trustme.CA, method: str) -> None:
    """Nor, with an assertion, anywhere else: that is what the assertion is for."""
    client = _client(method, secret=SECRET, key=OctKey.import_key(SECRET), algorithm="HS256")
    async with _server(tmp_path, authority, client) as server:
        await _fetch(server, tmp_path, auth_method=method, client_secret=SecretSource(env="SECRET"))
    assert SECRET.encode() not in server.bodies[0]
    assert ("Authorization" in server.fields[0]) == (method == "client_secret_basic")


async def test_basic_credentials_of_any_characters_arrive() -> None:
    """Id and secret are form-encoded before they are joined by a colon (RFC 6749 §2.3.1)."""
    client_id, secret = "the client: 100 %", "zebra +&=%/é€ quilt"
    async with FakeAuthorizationServer(client_id=client_id, client_secret=secret) as server:
        settings = CredentialSettings(
            token_url=server.token_url,
            client_id=client_id,
            auth_method="client_secret_basic",
            client_secret=SecretSource(env="SECRET"),
            audience="https://api.switchmarket.se",
        )
        source = credentials_from(settings, environ={"SECRET": secret}, clock=SystemClock(), mask=ignore)
        await source.load()
        async with TokenClient(settings=settings, clock=SystemClock(), mask=ignore) as client:
            await client.fetch(source.current())
        assert len(server.issued) == 1


async def test_a_secret_too_short_for_a_signature_is_told_before_it_is_used() -> None:
    """RFC 7518 §3.2: a key of HS256 has 256 bits at least."""
    settings = CredentialSettings(
        token_url="https://a.example/t",
        client_id="c",
        auth_method="client_secret_jwt",
        client_secret=SecretSource(env="SECRET"),
    )
    for length, is_enough in ((31, False), (32, True)):
        source = credentials_from(settings, environ={"SECRET": "x" * length}, clock=ManualClock(), mask=ignore)
        await source.load()
        assert (source.state.error is None) == is_enough  # type: ignore[union-attr]


# --- with a private key --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["PEM", "JWK"])
@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "EdDSA"])
async def test_a_client_with_a_private_key_gets_tokens(
    tmp_path: Path, authority: trustme.CA, keys: dict[str, Any], algorithm: str, form: str
) -> None:
    key = keys[algorithm]
    (tmp_path / "key").write_text(_pem(key) if form == "PEM" else json.dumps(key.as_dict(private=True)))
    client = _client("private_key_jwt", key=key, algorithm=algorithm)
    async with _server(tmp_path, authority, client) as server:
        await _fetch(
            server,
            tmp_path,
            auth_method="private_key_jwt",
            private_key=PrivateKeySettings(file=str(tmp_path / "key"), algorithm=algorithm),  # type: ignore[arg-type]
        )
    assert server.issued == 1


async def test_each_assertion_is_new_and_short_lived(
    tmp_path: Path, authority: trustme.CA, keys: dict[str, Any]
) -> None:
    """A server that remembers every jti takes each of them; none is good for longer than a minute."""
    (tmp_path / "key").write_text(_pem(keys["ES256"]))
    client = _client("private_key_jwt", key=keys["ES256"], algorithm="ES256")
    async with _server(tmp_path, authority, client) as server:
        await _fetch(
            server,
            tmp_path,
            times=3,
            auth_method="private_key_jwt",
            private_key=PrivateKeySettings(file=str(tmp_path / "key"), key_id="2026-11"),
        )
    assert len(server.used_ids) == 3
    for header, claims in server.assertions:
        assert header == {"typ": "JWT", "alg": "ES256", "kid": "2026-11"}
        assert set(claims) == {"iss", "sub", "aud", "iat", "exp", "jti"}
        assert (claims["iss"], claims["sub"], claims["aud"]) == ("the-client", "the-client", server.token_url)
        assert claims["exp"] == claims["iat"] + 60
        assert len(claims["jti"]) == 32


class _ClockThatIsOff(SystemClock):
    def __init__(self, seconds: float) -> None:
        super().__init__()
        wall = self.wall
        self.wall = lambda: wall() + seconds


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"assertion_audience": "https://other.example/"}, id="another audience"),
        pytest.param({"clock": _ClockThatIsOff(-3600.0)}, id="expired"),
        pytest.param({"client_id": "another-client"}, id="another client"),
        pytest.param({"key": "RS256"}, id="another key"),
    ],
)
async def test_the_server_refuses_an_assertion_that_does_not_hold(
    tmp_path: Path, authority: trustme.CA, keys: dict[str, Any], wrong: dict[str, Any]
) -> None:
    """So the tests above prove something; and the error names what to check."""
    key = keys[wrong.pop("key", "ES256")] if "key" in wrong else keys["ES256"]
    (tmp_path / "key").write_text(_pem(key))
    client = _client("private_key_jwt", key=keys["ES256"], algorithm="ES256")
    async with _server(tmp_path, authority, client) as server:
        with pytest.raises(TokenRequestRefusedError, match="check client_id and the private key") as caught:
            await _fetch(
                server,
                tmp_path,
                auth_method="private_key_jwt",
                private_key=PrivateKeySettings(file=str(tmp_path / "key")),
                **wrong,
            )
    assert caught.value.is_about_client
    assert server.issued == 0


@pytest.mark.parametrize("seconds", [8.0, -45.0], ids=["ahead", "behind"])
async def test_a_clock_that_is_a_little_off_is_no_matter(
    tmp_path: Path, authority: trustme.CA, keys: dict[str, Any], seconds: float
) -> None:
    """The server has no patience with assertions from the future, nor with those that are over."""
    (tmp_path / "key").write_text(_pem(keys["ES256"]))
    client = _client("private_key_jwt", key=keys["ES256"], algorithm="ES256")
    async with _server(tmp_path, authority, client) as server:
        await _fetch(
            server,
            tmp_path,
            clock=_ClockThatIsOff(seconds),
            auth_method="private_key_jwt",
            private_key=PrivateKeySettings(file=str(tmp_path / "key")),
        )
    assert server.issued == 1


async def test_an_assertion_for_the_configured_audience_is_taken(
    tmp_path: Path, authority: trustme.CA, keys: dict[str, Any]
) -> None:
    """Some servers expect their issuer as aud, others the token endpoint."""
    (tmp_path / "key").write_text(_pem(keys["ES256"]))
    client = _client("private_key_jwt", key=keys["ES256"], algorithm="ES256")
    async with _server(tmp_path, authority, client) as server:
        await _fetch(
            server,
            tmp_path,
            auth_method="private_key_jwt",
            private_key=PrivateKeySettings(file=str(tmp_path / "key")),
            assertion_audience=server.issuer,
        )
    assert server.assertions[0][1]["aud"] == server.issuer


async def test_the_typ_of_the_assertion_can_be_that_of_the_revision(
    tmp_path: Path, authority: trustme.CA, keys: dict[str, KeyBase]
) -> None:
    """RFC 7523bis §4."""
    (tmp_path / "key").write_text(_pem(keys["ES256"]))
    client = _client("private_key_jwt", key=keys["ES256"], algorithm="ES256")
    async with _server(tmp_path, authority, client) as server:
        await _fetch(
            server,
            tmp_path,
            auth_method="private_key_jwt",
            private_key=PrivateKeySettings(file=str(tmp_path / "key")),
            assertion_typ="client-authentication+jwt",
        )
    assert server.assertions[0][0]["typ"] == "client-authentication+jwt"


# --- with a certificate --------------------------------------------------------------------------------------------


def _self_signed(name: str) -> tuple[x509.Certificate, str]:
    """Return a self-signed certificate, and certificate and key as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate, (private + certificate.public_bytes(serialization.Encoding.PEM)).decode("ascii")


async def test_a_client_with_a_certificate_of_an_authority_gets_tokens(tmp_path: Path, authority: trustme.CA) -> None:
    """RFC 8705 §2.1: the server compares the subject; certificate and key are in two files."""
    certificate = authority.issue_cert(common_name="the-client.example")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "tls.crt")
    certificate.private_key_pem.write_to_path(tmp_path / "tls.key")
    client = _client("tls_client_auth", certificate_subject="the-client.example")
    files = {
        "client_certificate_file": str(tmp_path / "tls.crt"),
        "client_key_file": str(tmp_path / "tls.key"),
    }
    async with _server(tmp_path, authority, client, trusted=authority.cert_pem.bytes()) as server:
        await _fetch(server, tmp_path, auth_method="tls_client_auth", tls=files)
    assert server.issued == 1
    assert server.forms == [{"grant_type": "client_credentials", "client_id": "the-client"}]


async def test_a_certificate_of_another_client_is_refused(tmp_path: Path, authority: trustme.CA) -> None:
    certificate = authority.issue_cert(common_name="another.example")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    client = _client("tls_client_auth", certificate_subject="the-client.example")
    async with _server(tmp_path, authority, client, trusted=authority.cert_pem.bytes()) as server:
        with pytest.raises(TokenRequestRefusedError, match="check client_id and the client certificate"):
            await _fetch(
                server,
                tmp_path,
                auth_method="tls_client_auth",
                tls={"client_certificate_file": str(tmp_path / "both.pem")},
            )


async def test_key_certificate_and_chain_may_be_in_one_file(tmp_path: Path, authority: trustme.CA) -> None:
    """In the order of HAProxy and others, too: the server knows the root alone."""
    certificate = authority.create_child_ca().issue_cert(common_name="the-client.example")
    assert len(certificate.cert_chain_pems) == 2
    client = _client("tls_client_auth", certificate_subject="the-client.example")
    chain = b"".join(pem.bytes() for pem in certificate.cert_chain_pems)
    key = certificate.private_key_pem.bytes()
    async with _server(tmp_path, authority, client, trusted=authority.cert_pem.bytes()) as server:
        for content in (key + chain, chain + key):
            (tmp_path / "all.pem").write_bytes(content)
            files = {"client_certificate_file": str(tmp_path / "all.pem")}
            await _fetch(server, tmp_path, auth_method="tls_client_auth", tls=files)
        same = {"client_certificate_file": str(tmp_path / "all.pem"), "client_key_file": str(tmp_path / "all.pem")}
        await _fetch(server, tmp_path, auth_method="tls_client_auth", tls=same)
    assert server.issued == 3


async def test_a_client_with_a_self_signed_certificate_gets_tokens(tmp_path: Path, authority: trustme.CA) -> None:
    """RFC 8705 §2.2: the server compares the certificate itself; it stands with its key in one file."""
    certificate, pem = _self_signed("the-client")
    (tmp_path / "both.pem").write_text(pem)
    client = _client("self_signed_tls_client_auth", certificate=certificate.public_bytes(serialization.Encoding.DER))
    trusted = certificate.public_bytes(serialization.Encoding.PEM)
    async with _server(tmp_path, authority, client, trusted=trusted) as server:
        await _fetch(
            server,
            tmp_path,
            auth_method="self_signed_tls_client_auth",
            tls={"client_certificate_file": str(tmp_path / "both.pem")},
        )
    assert server.issued == 1


async def test_another_certificate_is_shown_once_its_files_have_changed(tmp_path: Path, authority: trustme.CA) -> None:
    """The same client goes on: renewed certificates need no restart. Half a renewal leaves the last good one in use."""
    (first, first_pem), (second, second_pem) = _self_signed("first"), _self_signed("second")
    (tmp_path / "both.pem").write_text(first_pem)
    trusted = b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in (first, second))
    seen = []
    async with _server(tmp_path, authority, trusted=trusted) as server:
        settings = CredentialSettings(
            token_url=server.token_url,
            client_id="the-client",
            auth_method="self_signed_tls_client_auth",
            tls=TlsSettings(ca_file=str(tmp_path / "ca.pem"), client_certificate_file=str(tmp_path / "both.pem")),
        )
        source = credentials_from(settings, environ={}, clock=SystemClock(), mask=ignore)
        async with TokenClient(settings=settings, clock=SystemClock(), mask=ignore) as client:
            for registered, content in ((first, first_pem), (first, "half of it"), (second, second_pem)):
                (tmp_path / "both.pem").write_text(content)
                der = registered.public_bytes(serialization.Encoding.DER)
                server.clients["the-client"] = _client("self_signed_tls_client_auth", certificate=der)
                await source.load()
                await client.fetch(source.current())
                seen.append(server.issued)
    assert seen == [1, 2, 3]


# --- with a workload's identity ------------------------------------------------------------------------------------


def _workload_token(key: Any, audience: str, **claims: Any) -> str:
    """Return a token as a cluster gives its pods, for a projected volume."""
    now = int(datetime.now(UTC).timestamp())
    payload = {"iss": CLUSTER, "sub": WORKLOAD, "aud": [audience], "iat": now, "exp": now + 3600, **claims}
    return jwt.encode({"alg": "RS256", "kid": "cluster"}, payload, key)


async def test_a_workload_gets_tokens_with_the_assertion_of_its_platform(
    tmp_path: Path, authority: trustme.CA, keys: dict[str, Any]
) -> None:
    """No secret anywhere: the file holds a token of the cluster, and its current content is sent."""
    client = _client("client_assertion", key=keys["RS256"], algorithm="RS256", workload=(CLUSTER, WORKLOAD))
    async with _server(tmp_path, authority, client) as server:
        for number in range(2):
            (tmp_path / "token").write_text(_workload_token(keys["RS256"], server.issuer, jti=str(number)) + "\n")
            await _fetch(
                server,
                tmp_path,
                auth_method="client_assertion",
                client_assertion=AssertionSource(file=str(tmp_path / "token")),
            )
    assert [claims["jti"] for _, claims in server.assertions] == ["0", "1"]
    assert server.forms[0]["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"exp": 1_700_000_000}, id="expired"),
        pytest.param({"sub": "system:serviceaccount:shop:other"}, id="another service account"),
        pytest.param({"aud": ["https://kubernetes.default.svc"]}, id="for the cluster itself"),
    ],
)
async def test_an_assertion_of_another_workload_is_refused(
    tmp_path: Path, authority: trustme.CA, keys: dict[str, Any], claims: dict[str, Any]
) -> None:
    client = _client("client_assertion", key=keys["RS256"], algorithm="RS256", workload=(CLUSTER, WORKLOAD))
    async with _server(tmp_path, authority, client) as server:
        token = _workload_token(keys["RS256"], server.issuer, **claims)
        (tmp_path / "token").write_text(token)
        with pytest.raises(TokenRequestRefusedError, match="check client_id and the client assertion") as caught:
            await _fetch(
                server,
                tmp_path,
                auth_method="client_assertion",
                client_assertion=AssertionSource(file=str(tmp_path / "token")),
            )
    assert token not in str(caught.value)


async def test_a_file_without_an_assertion_is_told(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("not yet")
    settings = CredentialSettings(
        token_url="https://a.example/t",
        client_id="c",
        auth_method="client_assertion",
        client_assertion=AssertionSource(file=str(tmp_path / "token")),
    )
    source = credentials_from(settings, environ={}, clock=ManualClock(), mask=ignore)
    await source.load()
    with pytest.raises(SecretUnavailableError, match=r"no client assertion: the file .* signed JWT"):
        source.current()


# --- what it costs -------------------------------------------------------------------------------------------------

_IMPORTS: Final = """
import asyncio, sys
from switch_proxy import app, settings
from switch_proxy.clock import SystemClock
from switch_proxy.core.redaction import Redactor
from switch_proxy.tokens.sources import credentials_from
from switch_proxy.tokens.client import TokenClient

async def main(method):
    text = f'''
credentials:
  switch: {{token_url: "http://127.0.0.1:1/t", client_id: a, client_secret: {{env: SECRET}}, auth_method: {method}}}
routes:
  - {{name: a, listen: "127.0.0.1:0", upstream: "http://127.0.0.1:1", credential: switch}}
'''
    credential = settings.parse(text.encode(), source="f", environ={}).credentials["switch"]
    source = credentials_from(credential, environ={"SECRET": "x" * 40}, clock=SystemClock(), mask=Redactor().learn)
    await source.load()
    async with TokenClient(settings=credential, clock=SystemClock(), mask=Redactor().learn) as client:
        try:
            await client.fetch(source.current())
        except Exception as error:
            print(type(error).__name__)
    print(sorted({name.partition(".")[0] for name in sys.modules} & {"cryptography", "joserfc"}))

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.parametrize(
    ("method", "imported"),
    [
        ("client_secret_post", "[]"),
        ("client_secret_basic", "[]"),
        ("client_secret_jwt", "['cryptography', 'joserfc']"),
    ],
)
async def test_cryptography_is_imported_only_where_something_is_signed(method: str, imported: str) -> None:
    """A fetch in a process of its own: 10 MB and 0.1 s are only spent if they are needed."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "PYTEST"))}
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", _IMPORTS, method],
        capture_output=True,
        text=True,
        check=False,
        env=environ,
    )
    assert done.stdout.splitlines() == ["TokenEndpointUnavailableError", imported], done.stderr
