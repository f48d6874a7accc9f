"""The models of the configuration, made in code."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from switch_proxy.core.config.models import (
    Address,
    AdminSettings,
    CredentialSettings,
    LimitSettings,
    ListenerLimitSettings,
    ListenerSettings,
    ListenerTimeoutSettings,
    LogSettings,
    MatchSettings,
    Origin,
    PathPrefix,
    PoolSettings,
    RouteSettings,
    SecretSource,
    Settings,
    ShutdownSettings,
    TimeoutSettings,
    TlsSettings,
)
from switch_proxy.core.errors import InvalidValueError
from switch_proxy.core.schema.keys import fields_of

_MODELS = [
    AdminSettings,
    CredentialSettings,
    LimitSettings,
    ListenerLimitSettings,
    ListenerSettings,
    ListenerTimeoutSettings,
    LogSettings,
    MatchSettings,
    PoolSettings,
    RouteSettings,
    SecretSource,
    Settings,
    ShutdownSettings,
    TimeoutSettings,
    TlsSettings,
]


def _credential(**changes: Any) -> CredentialSettings:
    values: dict[str, Any] = {
        "token_url": "https://login.example.com/oauth/token",
        "client_id": "id",
        "client_secret": SecretSource(env="SECRET"),
    }
    return CredentialSettings(**{**values, **changes})


def _route(**changes: Any) -> RouteSettings:
    values: dict[str, Any] = {
        "name": "api",
        "listen": Address(host="127.0.0.1", port=0),
        "upstream": Origin(scheme="https", host="api.example.com", port=443),
        "credential": "switch",
    }
    return RouteSettings(**{**values, **changes})


def _shared(*routes: RouteSettings) -> Settings:
    listener = ListenerSettings(listen=Address(host="127.0.0.1", port=0))
    return Settings(credentials={"switch": _credential()}, listeners={"local": listener}, routes=routes)


def test_settings_of_what_is_required_alone_have_the_documented_defaults() -> None:
    settings = Settings(credentials={"switch": _credential()}, routes=(_route(),))
    route = settings.routes[0]
    assert route.timeouts == TimeoutSettings(
        connect=5.0, tls_handshake=5.0, response_head=60.0, idle=300.0, request_head=10.0, keep_alive=75.0
    )
    assert route.limits == LimitSettings(request_line=8192, head=65536, field_lines=128, replay_buffer=65536)
    assert route.pool == PoolSettings(
        max_connections=256, max_waiting=1024, acquire_timeout=5.0, idle_timeout=60.0, lifetime=3600.0
    )
    assert (route.wait_for_token, route.via) == (5.0, None)
    assert (route.allow_plaintext, route.allow_remote_clients) == (False, False)
    assert settings.admin == AdminSettings(listen=Address(host="127.0.0.1", port=9901), allow_remote_clients=False)
    assert settings.log == LogSettings(level="info", format="json", access="all")
    assert settings.shutdown == ShutdownSettings(grace_period=25.0, drain_delay=0.0)
    credential = settings.credentials["switch"]
    assert (credential.default_lifetime, credential.timeout, credential.extra_params) == (300.0, 10.0, {})
    assert credential.min_forced_refresh_interval == 60.0


@pytest.mark.parametrize("model", _MODELS)
def test_model_cannot_be_changed(model: type[Any]) -> None:
    instance = object.__new__(model)
    for field in fields_of(model):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(instance, field.name, None)


@pytest.mark.parametrize("model", _MODELS)
def test_every_key_says_what_it_is_for_in_a_sentence(model: type[Any]) -> None:
    """The text is what editors show, so it has to stand alone."""
    for field in fields_of(model):
        assert field.key.text.endswith(".")
        assert (field.model is None) == (field.key.rule is not None)


@pytest.mark.parametrize("model", _MODELS)
def test_every_default_obeys_its_own_rule(model: type[Any]) -> None:
    for field in fields_of(model):
        if field.key.rule is not None and not (field.is_required or field.is_table or field.is_list):
            assert field.key.rule.parse(field.default) == field.default


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        pytest.param(lambda: TimeoutSettings(connect=0), "of connect is out of range", id="value out of range"),
        pytest.param(lambda: PoolSettings(max_connections=0), "of max_connections is out of range", id="no connection"),
        pytest.param(
            lambda: LimitSettings(head=2**20, request_buffers=2**19),
            "of request_buffers is less than head",
            id="no room for the largest head",
        ),
        pytest.param(
            lambda: LimitSettings(head=4096), "of head is less than request_line", id="head below its first line"
        ),
        pytest.param(SecretSource, "has neither file nor env", id="no source"),
        pytest.param(lambda: SecretSource(file="a", env="B"), "has both file and env", id="two sources"),
        pytest.param(lambda: SecretSource(env="hunter-2"), "of env is not the name", id="value in place of a variable"),
        pytest.param(lambda: TlsSettings(client_key_file="k"), "a key without a certificate", id="key alone"),
        pytest.param(lambda: _credential(client_id=" "), "of client_id is empty", id="blank client id"),
        pytest.param(lambda: _credential(client_id="id "), "of client_id has a space", id="space behind the client id"),
        pytest.param(lambda: _credential(client_secret="hunter2"), "in the clear", id="secret in the clear"),
        pytest.param(lambda: _credential(scope="a  b"), "of scope is not a scope", id="two spaces in a scope"),
        pytest.param(
            lambda: _credential(token_url="http://a.example/t"), "of token_url is not https", id="plaintext endpoint"
        ),
        pytest.param(
            lambda: _credential(extra_params={"a": "b\n"}), "has an invisible character", id="line end in a parameter"
        ),
        pytest.param(
            lambda: _credential(extra_params={"scope": "a"}), "has a key of its own", id="parameter with a key"
        ),
        pytest.param(lambda: _credential(extra_params={"grant_type": "x"}), "sets itself", id="parameter of the proxy"),
        pytest.param(
            lambda: _credential(extra_params={"client_secret": "x"}), "does not belong", id="secret as a parameter"
        ),
        pytest.param(lambda: _route(name="a b"), "of name is not a name", id="space in a name"),
        pytest.param(lambda: _route(name="a" * 64), "of name is not a name", id="name one too long"),
        pytest.param(lambda: _route(via="a b"), "cannot be used in a Via line", id="space in the pseudonym"),
        pytest.param(
            lambda: _route(upstream=Origin(scheme="http", host="a.example", port=80)),
            "of upstream is not https",
            id="plaintext upstream",
        ),
        pytest.param(
            lambda: _route(listen=Address(host="0.0.0.0", port=80)), "from outside this pod", id="open listener"
        ),
        pytest.param(
            lambda: AdminSettings(listen=Address(host="::", port=80)), "from outside this pod", id="open admin listener"
        ),
        pytest.param(
            lambda: Settings(credentials={}, routes=(_route(),)), "of credentials is empty", id="no credential"
        ),
        pytest.param(
            lambda: Settings(credentials={"switch": _credential()}, routes=()), "of routes is empty", id="no route"
        ),
        pytest.param(
            lambda: Settings(credentials={"other": _credential()}, routes=(_route(),)),
            "names no credential",
            id="unknown credential",
        ),
        pytest.param(
            lambda: Settings(credentials={"switch": _credential()}, routes=(_route(), _route())),
            "is the name of",
            id="name twice",
        ),
        pytest.param(
            lambda: Settings(credentials={"switch": _credential()}, routes=(_route(name="admin"),)),
            "is what the log calls the admin listener",
            id="the admin listener's name",
        ),
        pytest.param(
            lambda: Settings(
                credentials={"switch": _credential()},
                routes=(_route(listen=Address(host="localhost", port=9901)),),
            ),
            "is taken by admin.listen",
            id="admin's address",
        ),
        pytest.param(lambda: _route(listen=None), "of listen is missing", id="neither listen nor listener"),
        pytest.param(lambda: _route(listener="local"), "is given together with listen", id="listen and listener"),
        pytest.param(
            lambda: _route(strip_prefix=True), "has no prefix to take off", id="prefix to strip without a path"
        ),
        pytest.param(lambda: MatchSettings(host="a.example:80"), "of host has a port", id="host with a port"),
        pytest.param(
            lambda: _shared(_route(listen=None, listener="local", timeouts=TimeoutSettings(request_head=5))),
            "routes[0].timeouts.request_head is needed before",
            id="listener's key on a route that shares one",
        ),
        pytest.param(
            lambda: _shared(_route(listen=None, listener="local"), _route(name="b", listen=None, listener="local")),
            "routes[1].match matches the same requests as routes[0]",
            id="two routes that match the same",
        ),
        pytest.param(lambda: _shared(_route()), "listeners.local is used by no route", id="listener of no route"),
        pytest.param(
            lambda: _shared(_route(listen=None, listener="locl")), 'did you mean "local"?', id="unknown listener"
        ),
    ],
)
def test_settings_that_break_a_rule_cannot_be_made_in_code_either(make: Any, complaint: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        make()
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: _credential(token_url="http://127.0.0.1:1/t"), id="token endpoint on loopback"),
        pytest.param(
            lambda: _credential(token_url="http://a.example/t", allow_plaintext=True), id="token endpoint, allowed"
        ),
        pytest.param(lambda: _route(upstream=Origin(scheme="http", host="::1", port=80)), id="upstream on loopback"),
        pytest.param(
            lambda: _route(upstream=Origin(scheme="http", host="a.example", port=80), allow_plaintext=True),
            id="upstream, allowed",
        ),
        pytest.param(
            lambda: _route(listen=Address(host="0.0.0.0", port=80), allow_remote_clients=True),
            id="open listener, allowed",
        ),
        pytest.param(lambda: AdminSettings(listen=None), id="no admin listener"),
        pytest.param(lambda: TlsSettings(client_certificate_file="both.pem"), id="certificate and key in one file"),
        pytest.param(lambda: LimitSettings(head=8192), id="head as long as its first line"),
        pytest.param(
            lambda: Settings(
                credentials={"switch": _credential()},
                routes=(_route(), _route(name="b"), _route(name="c", listen=Address(host="127.0.0.1", port=9901))),
                admin=AdminSettings(listen=None),
            ),
            id="any free port twice, and admin's port while admin is off",
        ),
        pytest.param(
            lambda: _shared(
                _route(listen=None, listener="local"),
                _route(name="b", listen=None, listener="local", match=MatchSettings(path=PathPrefix(segments=("b",)))),
            ),
            id="two routes on one listener",
        ),
    ],
)
def test_settings_at_the_edge_of_a_rule_can_be_made(make: Any) -> None:
    assert make() is not None


def test_client_secret_of_a_credential_is_never_part_of_its_repr() -> None:
    """The settings hold where the secret is, never the secret."""
    assert repr(_credential().client_secret) == "SecretSource(file=None, env='SECRET')"
