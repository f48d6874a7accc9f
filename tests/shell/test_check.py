"""What `switch-proxy check` says about the files and variables that a configuration names."""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc.jwk import ECKey

from switch_proxy.check import explain, find_warnings, try_credential, try_store
from switch_proxy.core.addresses import parse_redis_address
from switch_proxy.core.config.models import RedisSettings, TokenStoreSettings
from switch_proxy.core.config.validation import read_settings
from switch_proxy.demo import faults
from switch_proxy.demo.auth_server import SWITCH_AUDIENCE, FakeAuthorizationServer
from tests.authorization_server import RealAuthorizationServer, RegisteredClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from switch_proxy.core.config.models import CredentialSettings, Settings

_SECRET = "hunter2-hunter2"


def _settings(*, credential: dict[str, Any] | None = None, route: dict[str, Any] | None = None) -> Settings:
    return read_settings(
        {
            "credentials": {
                "switch": {
                    "token_url": "https://login.example.com/t",
                    "client_id": "id",
                    "client_secret": {"env": "SECRET"},
                    **(credential or {}),
                }
            },
            "routes": [
                {
                    "name": "api",
                    "listen": "127.0.0.1:0",
                    "upstream": "https://a.example",
                    "credential": "switch",
                    **(route or {}),
                }
            ],
        },
        {},
    )


def _warnings(settings: Settings, **environ: str) -> list[str]:
    return list(find_warnings(settings, environ))


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "does not exist"),
        (
            "-----BEGIN CERTIFICATE-----\n???\n-----END CERTIFICATE-----\n",
            "cannot be loaded as certificates in PEM form",
        ),
        ("", "cannot be loaded as certificates in PEM form"),
    ],
    ids=["missing", "garbage", "empty"],
)
def test_variable_that_names_no_authorities_is_a_warning(tmp_path: Path, content: str | None, fault: str) -> None:
    """OpenSSL says only that the issuer is unknown."""
    file = tmp_path / "authorities.pem"
    if content is not None:
        file.write_text(content)
    (warning,) = _warnings(_settings(), SECRET=_SECRET, SSL_CERT_FILE=str(file))
    assert f"the variable SSL_CERT_FILE names the file {file}, which {fault}" in warning


def test_variable_that_names_no_folder_is_a_warning(tmp_path: Path) -> None:
    (warning,) = _warnings(_settings(), SECRET=_SECRET, SSL_CERT_DIR=f"{tmp_path}/a:{tmp_path}/b")
    assert "the variable SSL_CERT_DIR names" in warning


def test_variables_that_name_authorities_are_no_matter_of_note(tmp_path: Path) -> None:
    file = tmp_path / "authorities.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    assert _warnings(_settings(), SECRET=_SECRET, SSL_CERT_FILE=str(file), SSL_CERT_DIR=str(tmp_path)) == []


def test_variable_is_no_matter_if_every_server_has_authorities_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "authorities.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    tls = {"tls": {"ca_file": str(file)}}
    assert _warnings(_settings(credential=tls, route=tls), SECRET=_SECRET, SSL_CERT_FILE="/nowhere") == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("$SWITCH_CLIENT_ID", "SWITCH_CLIENT_ID"),
        ("$(SWITCH_CLIENT_ID)", "SWITCH_CLIENT_ID"),
        ("%SWITCH_CLIENT_ID%", "SWITCH_CLIENT_ID"),
        ("{{ .Values.clientId }}", "NAME"),
        ("app-$(client_id)", "client_id"),
    ],
)
def test_variable_in_another_notation_is_a_warning(text: str, name: str) -> None:
    """The authorization server would get it as it stands there."""
    (warning,) = _warnings(_settings(credential={"client_id": text}), SECRET=_SECRET)
    assert warning.startswith("credentials.switch.client_id has ")
    assert warning.endswith(f"is taken literally; for the value of a variable write ${{{name}}}")


@pytest.mark.parametrize("text", ["app", "a$b", "5$", "%C3%A4%20", "a{b}", "$", "US$100"])
def test_value_with_a_dollar_or_percent_sign_is_no_matter_of_note(text: str) -> None:
    assert _warnings(_settings(credential={"client_id": text}), SECRET=_SECRET) == []


def test_secret_that_is_there_is_no_matter_of_note(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{_SECRET}\n")
    assert _warnings(_settings(), SECRET=_SECRET) == []
    assert _warnings(_settings(credential={"client_secret": {"file": str(file)}})) == []


@pytest.mark.parametrize(
    ("environ", "fault"),
    [({}, "is not set"), ({"SECRET": ""}, "is empty"), ({"SECRET": "\n"}, "is empty")],
    ids=["unset", "empty", "line end alone"],
)
def test_variable_without_a_secret_is_a_warning(environ: dict[str, str], fault: str) -> None:
    assert _warnings(_settings(), **environ) == [
        f"credential switch: no client secret: the environment variable SECRET {fault}"
    ]


@pytest.mark.parametrize(("content", "fault"), [(None, "does not exist"), ("\n", "is empty")])
def test_file_without_a_secret_is_a_warning(tmp_path: Path, content: str | None, fault: str) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_text(content)
    assert _warnings(_settings(credential={"client_secret": {"file": str(file)}})) == [
        f"credential switch: no client secret: the file {file} {fault}"
    ]


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    """Return a folder with an authority, a certificate and its key, another's key, and an encrypted one."""
    authority = trustme.CA()
    certificate, other = authority.issue_cert("client.example"), authority.issue_cert("other.example")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    other.private_key_pem.write_to_path(tmp_path / "other.pem")
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    (tmp_path / "encrypted.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        )
    )
    (tmp_path / "text.pem").write_text("no certificate")
    return tmp_path


def _tls(folder: Path, **files: str) -> dict[str, Any]:
    return {"tls": {key: str(folder / name) for key, name in files.items()}}


def test_certificates_that_can_be_used_cause_no_warning(pem: Path) -> None:
    pair = _tls(pem, ca_file="ca.pem", client_certificate_file="cert.pem", client_key_file="key.pem")
    one = _tls(pem, client_certificate_file="both.pem")
    assert _warnings(_settings(credential=pair, route=one), SECRET=_SECRET) == []


@pytest.mark.parametrize(
    ("files", "warning"),
    [
        pytest.param({"ca_file": "none.pem"}, "none.pem does not exist", id="not there"),
        pytest.param(
            {"ca_file": "text.pem"}, "text.pem cannot be loaded as certificates in PEM form", id="no certificates"
        ),
        pytest.param(
            {"client_certificate_file": "cert.pem"},
            "cert.pem cannot be loaded as a certificate and its key in PEM form",
            id="certificate without key",
        ),
        pytest.param(
            {"client_certificate_file": "cert.pem", "client_key_file": "other.pem"},
            "cert.pem cannot be loaded as a certificate and its key in PEM form",
            id="key of another",
        ),
        pytest.param(
            {"client_certificate_file": "cert.pem", "client_key_file": "encrypted.pem"},
            "without a password",
            id="encrypted key",
        ),
    ],
)
def test_certificates_that_cannot_be_used_are_warnings(pem: Path, files: dict[str, str], warning: str) -> None:
    (of_credential,) = _warnings(_settings(credential=_tls(pem, **files)), SECRET=_SECRET)
    (of_route,) = _warnings(_settings(route=_tls(pem, **files)), SECRET=_SECRET)
    key = next(iter(files))
    assert of_credential.startswith(f"tls.{key} of credential 'switch' cannot be used: ")
    assert of_route.startswith(f"tls.{key} of route 'api' cannot be used: ")
    assert warning in of_credential
    assert warning in of_route


def test_explanation_begins_with_the_verdict_and_ends_with_the_warnings() -> None:
    lines = list(explain(_settings(), source="config.yaml", environ={}))
    assert lines[0] == "config.yaml is valid."
    assert lines[-2:] == [
        "warnings on this machine",
        "  - credential switch: no client secret: the environment variable SECRET is not set",
    ]


def test_explanation_without_warnings_ends_with_the_summary() -> None:
    assert "warnings" not in "\n".join(explain(_settings(), source="config.yaml", environ={"SECRET": _SECRET}))


# --- with network --------------------------------------------------------------------------------------------------


@pytest.fixture
async def auth() -> AsyncIterator[FakeAuthorizationServer]:
    async with FakeAuthorizationServer(client_id="app", client_secret=_SECRET) as server:
        yield server


def _credential(auth: FakeAuthorizationServer, **changes: Any) -> CredentialSettings:
    known = {"token_url": auth.token_url, "client_id": "app", "audience": SWITCH_AUDIENCE}
    return _settings(credential={**known, **changes}).credentials["switch"]


async def test_credential_that_works_is_told_by_one_token_which_is_not_shown(auth: FakeAuthorizationServer) -> None:
    attempt = await try_credential("switch", _credential(auth), {"SECRET": _SECRET})
    assert attempt.has_token
    told = "\n".join(attempt.lines)
    assert attempt.lines[:3] == (
        "credential switch gets a token",
        "  type              Bearer, a JWT",
        "  lifetime          1d, replaced after 18h or later",
    )
    assert f"  audience          {SWITCH_AUDIENCE}" in attempt.lines
    assert len(auth.requests) == 1
    (token,) = auth.issued
    assert all(part not in told for part in (token.value, *token.value.split("."), _SECRET))


async def test_credential_that_is_refused_is_told_with_the_reason_and_what_to_do(auth: FakeAuthorizationServer) -> None:
    attempt = await try_credential("switch", _credential(auth), {"SECRET": "not-" + _SECRET})
    assert not attempt.has_token
    assert attempt.lines[0] == "credential switch gets no token"
    assert "401 Unauthorized: access_denied" in attempt.lines[1]
    assert "check client_id and the client secret" in attempt.lines[1]
    assert _SECRET not in "\n".join(attempt.lines)


async def test_used_up_quota_is_told_with_its_end(auth: FakeAuthorizationServer) -> None:
    quota = faults.Field(name="Auth0-Client-Quota-Limit", value="b=per_day;q=50;r=0;t=3600")
    auth.faults.add(faults.Status(code=429), quota, faults.Field(name="Date", value="Mon, 21 Sep 2026 23:00:00 GMT"))
    attempt = await try_credential("switch", _credential(auth), {"SECRET": _SECRET})
    assert not attempt.has_token
    assert attempt.lines[0] == "credential switch gets no token"
    assert "the client's quota of tokens (50 a day) is used up until 00:00 UTC" in attempt.lines[1]


async def test_answer_that_is_no_token_is_told(auth: FakeAuthorizationServer) -> None:
    auth.faults.add(faults.TokenField(name="token_type", value="mac"))
    attempt = await try_credential("switch", _credential(auth), {"SECRET": _SECRET})
    assert not attempt.has_token
    assert "has the token_type 'mac'; only Bearer tokens can be used" in attempt.lines[1]
    assert auth.issued[0].value not in "\n".join(attempt.lines)


async def test_token_endpoint_that_does_not_answer_is_given_up_in_time(auth: FakeAuthorizationServer) -> None:
    auth.faults.add(faults.Hang())
    attempt = await try_credential("switch", _credential(auth, timeout=0.05), {"SECRET": _SECRET})
    assert (attempt.has_token, "did not respond within 0.05 seconds" in attempt.lines[1]) == (False, True)


async def test_credential_without_a_secret_asks_nobody(auth: FakeAuthorizationServer) -> None:
    attempt = await try_credential("switch", _credential(auth), {})
    assert attempt.lines == (
        "credential switch gets no token",
        "  no client secret: the environment variable SECRET is not set",
    )
    assert auth.requests == []


@asynccontextmanager
async def _issuer(
    folder: Path, client: RegisteredClient
) -> AsyncIterator[tuple[RealAuthorizationServer, dict[str, Any]]]:
    """Run a server with metadata; return it with the keys of a credential that finds its endpoint there."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    async with RealAuthorizationServer(client).serving(authority) as server:
        tls = {"ca_file": str(folder / "ca.pem")}
        yield server, {"token_url": None, "issuer": server.issuer, "client_id": client.client_id, "tls": tls}


@pytest.mark.parametrize("secret", [_SECRET, "another-secret"], ids=["accepted", "refused"])
async def test_endpoint_that_was_found_is_told(tmp_path: Path, secret: str) -> None:
    client = RegisteredClient(client_id="app", method="client_secret_post", secret=_SECRET)
    async with _issuer(tmp_path, client) as (server, credential):
        settings = _settings(credential=credential).credentials["switch"]
        attempt = await try_credential("switch", settings, {"SECRET": secret})
    assert attempt.has_token == (secret == _SECRET)
    assert f"  token endpoint    {server.token_url}, as the issuer says" in attempt.lines


@pytest.mark.parametrize(
    ("changes", "audience"),
    [
        pytest.param({}, None, id="the issuer"),
        pytest.param({"assertion_audience": "https://wrong.example/"}, "https://wrong.example/", id="a configured one"),
    ],
)
async def test_audience_of_the_assertion_is_told(tmp_path: Path, changes: dict[str, Any], audience: str | None) -> None:
    """Also if it is the cause of the refusal."""
    key = ECKey.import_key(ec.generate_private_key(ec.SECP256R1()))
    (tmp_path / "key.pem").write_bytes(key.as_pem(private=True))
    client = RegisteredClient(client_id="app", method="private_key_jwt", key=key, algorithm="ES256")
    async with _issuer(tmp_path, client) as (server, credential):
        signing = {
            "client_secret": None,
            "auth_method": "private_key_jwt",
            "private_key": {"file": str(tmp_path / "key.pem")},
        }
        settings = _settings(credential={**credential, **signing, **changes}).credentials["switch"]
        attempt = await try_credential("switch", settings, {})
    assert attempt.has_token == (audience is None)
    assert f"  assertion aud     {audience or server.issuer}" in attempt.lines


async def test_what_an_assertion_of_the_platform_says_is_told(auth: FakeAuthorizationServer, tmp_path: Path) -> None:
    claims = {
        "aud": ["https://a.example", "b"],
        "iss": "https://cluster.example",
        "sub": "system:serviceaccount:shop:app",
    }
    parts = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in ({"alg": "RS256"}, claims)
    )
    (tmp_path / "token").write_text(".".join([*parts, "c2lnbmF0dXJl"]))
    credential = _credential(
        auth, client_secret=None, auth_method="client_assertion", client_assertion={"file": str(tmp_path / "token")}
    )
    attempt = await try_credential("switch", credential, {})
    assert not attempt.has_token
    assert attempt.lines[2:] == (
        "  assertion aud     https://a.example b",
        "  assertion iss     https://cluster.example",
        "  assertion sub     system:serviceaccount:shop:app",
    )
    assert "c2lnbmF0dXJl" not in "\n".join(attempt.lines)


def test_key_that_cannot_sign_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("no key")
    credential = {
        "client_secret": None,
        "auth_method": "private_key_jwt",
        "private_key": {"file": str(tmp_path / "key.pem")},
    }
    assert _warnings(_settings(credential=credential)) == [
        f"credential switch: no private key: the file {tmp_path / 'key.pem'} holds no private key in PEM or JWK form"
    ]


def test_certificate_that_authenticates_is_a_warning_once(tmp_path: Path) -> None:
    credential = {
        "client_secret": None,
        "auth_method": "tls_client_auth",
        "tls": {"client_certificate_file": str(tmp_path / "none.pem")},
    }
    (warning,) = _warnings(_settings(credential=credential))
    assert warning.startswith(
        f"tls.client_certificate_file of credential 'switch' cannot be used: the file {tmp_path / 'none.pem'} "
    )


async def test_egress_proxy_that_cannot_be_used_is_told_of_the_credential_it_is_for() -> None:
    settings = _settings().credentials["switch"]
    attempt = await try_credential("switch", settings, {"SECRET": _SECRET, "HTTPS_PROXY": "socks5://a:1"})
    assert not attempt.has_token
    assert "HTTPS_PROXY is not the address of an HTTP proxy" in attempt.lines[-1]


@pytest.mark.parametrize(
    ("folder", "fault"),
    [("tokens", None), ("missing/tokens", "cannot be used: No such file or directory")],
    ids=["a directory that is made", "none above it"],
)
async def test_a_token_store_is_tried_before_anything_depends_on_it(
    tmp_path: Path, folder: str, fault: str | None
) -> None:
    path = tmp_path / folder
    told = await try_store(TokenStoreSettings(directory=str(path)), {})
    assert told == (None if fault is None else f"the directory {path} {fault}")


async def test_a_redis_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
    settings = TokenStoreSettings(redis=RedisSettings(url=parse_redis_address(f"redis://127.0.0.1:{port}")))
    assert await try_store(settings, {}) == (
        f"the Redis server redis://127.0.0.1:{port}/0 cannot be used: Connection refused"
    )
