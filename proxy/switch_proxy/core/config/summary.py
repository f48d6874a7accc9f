"""A summary of settings for people: what goes where, with which credential, and what is not at its default."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from switch_proxy.core.addresses import parse_endpoint
from switch_proxy.core.authentication.assertion import audience_of
from switch_proxy.core.authentication.registry import describe_credential, method_of
from switch_proxy.core.config.dump import dump_value
from switch_proxy.core.config.models import MatchSettings
from switch_proxy.core.jwt_claims import audiences, read_claims, scopes
from switch_proxy.core.schema.keys import fields_of
from switch_proxy.core.schema.units import format_duration
from switch_proxy.core.tokens import REFRESH_EARLIEST

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from switch_proxy.core.config.models import (
        Address,
        CredentialSettings,
        RouteSettings,
        Settings,
        TokenStoreSettings,
    )
    from switch_proxy.core.secret import Secret
    from switch_proxy.core.tokens import TokenGrant

_WIDTH = 18
"""Columns of the labels on the left."""

_LONGEST_WORDS = 300
"""Characters that are shown of what a server sent."""

_FOREIGN_REFERENCE = re.compile(
    r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)"  # Kubernetes, make
    r"|\$([A-Z_][A-Z0-9_]+)"  # shells
    r"|\A%([A-Z_][A-Z0-9_]{2,})%\Z"  # Windows
    r"|\{\{[^{}]*\}\}"  # Helm, Jinja
)
"""References to variables as others write them."""

_LABELLED = frozenset(
    {
        "name",
        "listen",
        "listener",
        "match",
        "strip_prefix",
        "upstream",
        "credential",
        "allow",
        "rate_limits",
        "token_url",
        "issuer",
        "client_id",
        "client_secret",
        "previous_client_secret",
        "file",
        "client_assertion",
        "assertion_audience",
        "audience",
        "scope",
        "url",
    }
)
"""Keys that have a line of their own."""


def summarize(settings: Settings) -> Iterator[str]:
    """Return lines that say what the proxy will do, without secrets and without queries of URLs."""
    for listener_name, listener in settings.listeners.items():
        yield f"listener {listener_name}"
        yield _line("listens on", _reach(listener.listen))
        yield _line("has the routes", ", ".join(r.name for r in settings.routes if r.listener == listener_name))
        yield from _not_by_default(listener)
        yield ""
    for route in settings.routes:
        yield f"route {route.name}"
        yield from _route(route)
        yield ""
    for name, credential in settings.credentials.items():
        yield f"credential {name}"
        yield from _credential(credential)
        yield ""
    store = settings.token_store_in_use
    if store is not None:
        yield "token store"
        yield from _token_store(store)
        yield ""
    admin, log, shutdown = settings.admin, settings.log, settings.shutdown
    yield "the proxy itself"
    yield _line("admin", "off" if admin.listen is None else f"{_reach(admin.listen)}: /livez, /readyz, /metrics")
    yield _line("log", f"from level {log.level}, as {log.format}; a line for {_ACCESS[log.access]}")
    delay = f"{format_duration(shutdown.drain_delay)} of drain delay, then " if shutdown.drain_delay else ""
    yield _line("shutdown", f"{delay}up to {format_duration(shutdown.grace_period)} for requests in flight")


_ACCESS = {
    "all": "each request",
    "errors": "each request that failed",
    "off": "each request that the proxy itself could not serve",
}


def describe_grant(grant: TokenGrant) -> Iterator[str]:
    """Return lines that describe a token, without the token itself."""
    claims = read_claims(grant.value.reveal())
    yield _line("type", "Bearer, a JWT" if claims is not None else "Bearer, opaque: only the API can read it")
    yield _line(
        "lifetime", f"{_rough(grant.lifetime)}, replaced after {_rough(grant.lifetime * REFRESH_EARLIEST)} or later"
    )
    if claims is not None:
        yield _line("issuer", _words([claims.get("iss")]) or "unknown")
        yield _line("audience", _words(audiences(claims)) or "unknown")
    names = [*(grant.scope or "").split(), *(scopes(claims) if claims is not None else ())]
    yield _line("scope", _words(dict.fromkeys(names)) or "unknown")
    yield from (_line("note", note) for note in grant.notes)


def describe_request(
    settings: CredentialSettings, *, token_url: str | None, client_credential: Secret
) -> Iterator[str]:
    """
    Return lines about a token request: the endpoint if the issuer's metadata named it, and what an assertion says.

    `token_url` is None if no endpoint was found. A refusal is often about these.
    """
    if settings.issuer is not None and token_url is not None:
        yield _line("token endpoint", f"{_words([str(parse_endpoint(token_url))])}, as the issuer says")
    method = method_of(settings)
    if method.sign is not None and token_url is not None:
        yield _line("assertion aud", audience_of(settings, token_url))
    claims = read_claims(client_credential.reveal()) if method.is_assertion else None
    if claims is not None:
        for name in ("aud", "iss", "sub"):
            shown = audiences(claims) if name == "aud" else [claims.get(name)]
            yield _line(f"assertion {name}", _words(shown) or "none")


def find_idle_credentials(settings: Settings) -> list[str]:
    """Return the names of the credentials that no route uses: their tokens are fetched, and paid for, for nothing."""
    used = {route.credential for route in settings.routes}
    return [name for name in settings.credentials if name not in used]


def find_foreign_references(settings: Settings) -> Iterator[str]:
    """Return sentences about values that hold a variable in another notation than `${NAME}`: they are taken literally."""
    for path, text in _texts_of(settings, ""):
        for match in _FOREIGN_REFERENCE.finditer(text):
            name = next((group for group in match.groups() if group), "NAME")
            yield f"{path} has {match[0]}, which is taken literally; for the value of a variable write ${{{name}}}"


def _texts_of(value: object, path: str) -> Iterator[tuple[str, str]]:
    """Return each text in a value with the path of its key."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts_of(item, f"{path}.{key}")
    elif isinstance(value, (tuple, list)):
        for number, item in enumerate(value):
            yield from _texts_of(item, f"{path}.{getattr(item, 'name', number)}")
    elif is_dataclass(value):
        for each in fields(value):
            yield from _texts_of(getattr(value, each.name), f"{path}.{each.name}".removeprefix("."))


def _rough(seconds: float) -> str:
    return format_duration(seconds if seconds < 1 else float(round(seconds)))


def _words(texts: Iterable[object]) -> str:
    """Return texts that a server sent, joined, cut short and with printable characters only."""
    words = " ".join(text for text in texts if isinstance(text, str))
    shown = "".join(character if character.isprintable() else "?" for character in words[:_LONGEST_WORDS])
    return shown if len(words) <= _LONGEST_WORDS else f"{shown}…"


def _route(route: RouteSettings) -> Iterator[str]:
    yield _line("listens on", f"listener {route.listener}" if route.listen is None else _reach(route.listen))
    if route.match != MatchSettings():
        host = "any host" if route.match.host is None else f"host {route.match.host}"
        path = "any path" if route.match.path is None else f"path {route.match.path}"
        yield _line("takes", f"{path}, {host}{', and strips the path' if route.strip_prefix else ''}")
    yield _line("forwards to", f"{route.upstream}{'' if route.upstream.scheme == 'https' else ' (in plaintext)'}")
    yield _line("with tokens of", f"credential {route.credential}")
    label = "only"
    for rule in route.allow or ():
        yield _line(label, f"{_joined(rule.methods, 'every method')} at {_joined(rule.paths, 'every path')}")
        label = ""
    label = "at most"
    for limit in route.rate_limits:
        rates = ", ".join(map(str, limit.limits))
        then = f"others wait up to {format_duration(limit.max_wait)}" if limit.mode == "pace" else "others get 429"
        what = f"{_joined(limit.methods, 'every method')} at {_joined(limit.paths, 'every path')}"
        yield _line(label, f"{rates} of {what}; {then}")
        label = ""
    yield from _not_by_default(route)


def _joined(parts: Iterable[object] | None, otherwise: str) -> str:
    return otherwise if parts is None else ", ".join(map(str, parts))


def _token_store(store: TokenStoreSettings) -> Iterator[str]:
    if store.redis is None:
        yield _line("directory", store.directory or "")
    else:
        yield _line("Redis server", f"{store.redis.url}{'' if store.redis.url.is_tls else ' (in plaintext)'}")
        yield from _not_by_default(store.redis)
    key = store.encryption_key
    own = "each credential's own secret or key"
    yield _line("encrypted with", own if key is None else f"the secret from {key}")


def _credential(credential: CredentialSettings) -> Iterator[str]:
    for label, url in (("token endpoint", credential.token_url), ("issuer", credential.issuer)):
        if url is not None:
            endpoint = parse_endpoint(url)
            yield _line(label, f"{endpoint}{'' if endpoint.scheme == 'https' else ' (in plaintext)'}")
    yield _line("client id", credential.client_id)
    described = describe_credential(credential)
    if described is not None:
        yield _line(*described)
    if method_of(credential).sign is not None:
        yield _line("assertion aud", audience_of(credential, credential.token_url or ""))
    if credential.audience is not None:
        yield _line("audience", credential.audience)
    if credential.scope is not None:
        yield _line("scope", credential.scope)
    yield from _not_by_default(credential)


def _not_by_default(model: Any) -> Iterator[str]:
    label = "not by default"
    for path, value, default in _changes(model, ""):
        yield _line(label, f"{path}: {value}" + (f" (default {default})" if default else ""))
        label = ""


def _changes(model: Any, above: str) -> Iterator[tuple[str, str, str]]:
    for field in fields_of(type(model)):
        value = getattr(model, field.name)
        if field.name in _LABELLED or (value is None and field.model is not None):
            continue
        if field.model is not None:
            yield from _changes(value, f"{above}{field.name}.")
        elif value != field.default:
            # Only the names of further parameters: a value may be less public than it looks.
            shown = ", ".join(value) if field.is_table or field.is_list else _shown(value)
            yield (
                f"{above}{field.name}",
                shown,
                "" if field.is_table or field.is_list or field.default is None else _shown(field.default),
            )


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return format_duration(value)
    return "off" if value is None else str(dump_value(value))


def _reach(address: Address) -> str:
    return f"{address}, {'this pod alone' if address.is_loopback else 'reachable from outside the pod'}"


def _line(label: str, text: str) -> str:
    return f"  {label:<{_WIDTH}}{text}"
