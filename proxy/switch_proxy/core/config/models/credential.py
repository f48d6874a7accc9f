"""`credentials.NAME`: one way to get access tokens."""

# No postponed evaluation of annotations here: core/schema/keys.py reads them.

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

from switch_proxy.core.addresses import parse_endpoint
from switch_proxy.core.authentication.assertion import CLIENT_AUTHENTICATION_JWT, JWT, JWT_BEARER, JWT_SPIFFE
from switch_proxy.core.authentication.client_assertion import AssertionSource, refuse_assertion_in_the_clear
from switch_proxy.core.authentication.client_secret import FORM as SECRET_FORM
from switch_proxy.core.authentication.client_secret import SecretSource, refuse_secret_in_the_clear
from switch_proxy.core.authentication.private_key_jwt import PrivateKeySettings, refuse_key_in_the_clear
from switch_proxy.core.authentication.registry import METHODS, find_authentication_problems, find_method
from switch_proxy.core.config.models.exposure import find_plaintext
from switch_proxy.core.config.models.tls import TlsSettings
from switch_proxy.core.lifecycle import MIN_FORCED_REFRESH_INTERVAL
from switch_proxy.core.schema.keys import Key, validate
from switch_proxy.core.schema.problem import About, Problem
from switch_proxy.core.schema.rules import (
    FIELD_NAME,
    FIELD_VALUE,
    ISSUER,
    OPTIONAL_ENDPOINT,
    OPTIONAL_TEXT,
    RESOURCE,
    SCOPE,
    SWITCH,
    TEXT,
    TIMEOUT,
    duration,
    one_of,
    optional_one_of,
)

_PARAMETERS_WITH_A_KEY: Final = frozenset({"audience", "client_id", "client_secret", "resource", "scope"})
_PARAMETERS_OF_THE_PROXY: Final = frozenset({"grant_type", "client_assertion", "client_assertion_type"})

_FIELDS_OF_THE_PROXY: Final = frozenset(
    {
        "accept",
        "accept-encoding",
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Header fields of the token request, in lower case, that frame it or authenticate the client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialSettings:
    """One way to get access tokens: a token endpoint, and the client that asks it (RFC 6749 §4.4)."""

    token_url: Annotated[
        str | None,
        Key(
            rule=OPTIONAL_ENDPOINT,
            text="The token endpoint, without user and fragment. https, unless the host is loopback or `allow_plaintext` is "
            "set: the client secret goes there.",
            without="this or `issuer`",
            example="https://login.example.com/oauth/token",
        ),
    ] = None
    issuer: Annotated[
        str | None,
        Key(
            rule=ISSUER,
            text="The issuer identifier, exactly as the authorization server has it; the token endpoint is found by RFC 8414 or "
            "OpenID Connect Discovery.",
            without="this or `token_url`",
            example="https://login.example.com/",
        ),
    ] = None
    client_id: Annotated[
        str, Key(rule=TEXT, text="The id of the client application. It is not a secret.", example="${SWITCH_CLIENT_ID}")
    ]
    auth_method: Annotated[
        str,
        Key(
            rule=one_of(*METHODS),
            text="How the client authenticates at the token endpoint.",
            why="The Switch API documents the default, and every server knows it.",
        ),
    ] = "client_secret_post"
    client_secret: Annotated[
        SecretSource | None,
        Key(
            before=refuse_secret_in_the_clear,
            text="Source of the client secret, for the methods that begin with `client_secret`; the secret itself is refused here.",
            example="{file: /var/run/secrets/switch/client_secret}",
        ),
    ] = None
    previous_client_secret: Annotated[
        SecretSource | None,
        Key(
            before=refuse_secret_in_the_clear,
            text="Source of the previous client secret, tried once if the current one is refused. May be empty.",
            example="{file: /var/run/secrets/switch/previous_client_secret}",
        ),
    ] = None
    private_key: Annotated[
        PrivateKeySettings | None,
        Key(before=refuse_key_in_the_clear, text="The key to sign with, for `private_key_jwt`."),
    ] = None
    client_assertion: Annotated[
        AssertionSource | None,
        Key(
            before=refuse_assertion_in_the_clear,
            text="Source of the signed JWT to authenticate with, for `client_assertion`.",
        ),
    ] = None
    assertion_audience: Annotated[
        str | None,
        Key(
            rule=OPTIONAL_TEXT,
            text="The `aud` of the assertions that the proxy signs.",
            without="the issuer, or else `token_url`",
            example="https://login.example.com/",
        ),
    ] = None
    assertion_typ: Annotated[
        Literal["JWT", "client-authentication+jwt"] | None,
        Key(
            rule=optional_one_of(JWT, CLIENT_AUTHENTICATION_JWT),
            text="The `typ` in the header of the assertions that the proxy signs: `client-authentication+jwt` for servers that keep to "
            "RFC 7523's revision.",
            without="`JWT`",
            example=CLIENT_AUTHENTICATION_JWT,
        ),
    ] = None
    assertion_type: Annotated[
        Literal["jwt-bearer", "jwt-spiffe"] | None,
        Key(
            rule=optional_one_of(JWT_BEARER, JWT_SPIFFE),
            text="The end of `client_assertion_type` in the token request, for `client_assertion`: `jwt-spiffe` for a JWT-SVID and a "
            "server that trusts SPIFFE identities, such as Keycloak.",
            without="`jwt-bearer`",
            example=JWT_SPIFFE,
        ),
    ] = None
    audience: Annotated[
        str | None,
        Key(
            rule=OPTIONAL_TEXT,
            text="The `audience` parameter of the token request; servers in the manner of Auth0 need it.",
            example="https://api.switchmarket.se",
        ),
    ] = None
    scope: Annotated[
        str | None,
        Key(
            rule=SCOPE,
            text="The `scope` parameter of the token request: scope names with one space between them (RFC 6749 §3.3). "
            "Microsoft's servers need it (`https://…/.default`).",
            example="https://api.example.com/.default",
        ),
    ] = None
    resource: Annotated[
        tuple[str, ...],
        Key(rule=RESOURCE, text="The `resource` parameters of the token request, one for each entry (RFC 8707)."),
    ] = ()
    extra_params: Annotated[
        dict[str, str],
        Key(
            rule=TEXT,
            names=TEXT,
            text="Further parameters of the token request, name to text. Not for secrets, and not for parameters that have a "
            "key.",
            example="{organization: org-1}",
        ),
    ] = field(default_factory=dict)
    extra_headers: Annotated[
        dict[str, str],
        Key(
            rule=FIELD_VALUE,
            names=FIELD_NAME,
            text="Further header fields of the token request, name to text, for gateways that want them. Not for secrets.",
            example="{X-Tenant: tenant-1}",
        ),
    ] = field(default_factory=dict)
    default_lifetime: Annotated[
        float,
        Key(
            rule=duration(1),
            text="How long a token is taken to last if the token response has no `expires_in`.",
            why="The default of Duende AccessTokenManagement: if it is wrong, then only for minutes.",
        ),
    ] = 300.0
    min_forced_refresh_interval: Annotated[
        float,
        Key(
            rule=duration(1),
            text="The shortest time between two token requests that a 401 of the API may cause.",
            why="Tokens are revoked by hand, so once a minute is often. It doubles up to an hour while new tokens are refused too, "
            "so that an API that refuses every token costs some 30 token requests a day.",
        ),
    ] = MIN_FORCED_REFRESH_INTERVAL
    timeout: Annotated[
        float,
        Key(
            rule=TIMEOUT,
            text="How long one token request may take in all.",
            why="It runs in the background, so it may be patient with a slow server.",
        ),
    ] = 10.0
    allow_plaintext: Annotated[
        bool,
        Key(
            rule=SWITCH,
            text="Whether `token_url` or `issuer` may be http on a host that is not loopback.",
            why="The client secret can then be read on the network.",
        ),
    ] = False
    tls: Annotated[
        TlsSettings,
        Key(
            text="TLS towards the token endpoint. It names the certificate of `tls_client_auth` and "
            "`self_signed_tls_client_auth`."
        ),
    ] = field(default_factory=TlsSettings)

    def __post_init__(self) -> None:
        validate(self)

    @staticmethod
    def find_problems(values: Mapping[str, Any]) -> Iterator[Problem]:
        """Find no endpoint or two, plaintext, what the method lacks or does not use, parameters that have a key of their own."""
        yield from _find_endpoint_problems(values)
        yield from find_authentication_problems(values)
        for name in values.get("extra_headers", ()):
            if name.lower() in _FIELDS_OF_THE_PROXY:
                yield Problem(path=("extra_headers",), text=f"has {name}, which the proxy sets itself; remove it")
        for parameter in values.get("extra_params", ()):
            if parameter == "client_secret":
                text = (
                    f"has a client_secret, and a secret does not belong in this file; remove it and write {SECRET_FORM}"
                )
            elif parameter in _PARAMETERS_WITH_A_KEY:
                text = f"has {parameter}, which has a key of its own; write it beside extra_params"
            elif parameter in _PARAMETERS_OF_THE_PROXY:
                text = f"has {parameter}, which the proxy sets itself; remove it"
            else:
                continue
            yield Problem(path=("extra_params",), text=text)


def _find_endpoint_problems(values: Mapping[str, Any]) -> Iterator[Problem]:
    given = [name for name in ("token_url", "issuer") if values.get(name, "") is not None]
    if not given:
        text = (
            "is missing; write token_url: https://login.example.com/oauth/token, or issuer: https://login.example.com"
        )
        yield Problem(path=("token_url",), text=text, about=About.ABSENCE)
    elif len(given) > 1:
        text = "is given together with token_url, and either is enough; keep one of them"
        yield Problem(path=("issuer",), text=text)
    for name in given:
        if name in values:
            origin = parse_endpoint(values[name])
            yield from find_plaintext(name, origin, values, why="what authenticates the client goes there")
            method = find_method(values)
            if origin.scheme != "https" and method is not None and method.is_by_certificate:
                text = f"is not https, and {method.name} shows its certificate in TLS; write https://…"
                yield Problem(path=(name,), text=text)
