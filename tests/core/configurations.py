"""Configurations of many shapes, all of them valid, as the plain values that a file holds."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

_names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}", fullmatch=True)
_texts = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x2FF, exclude_categories=("Cc", "Cs")), min_size=1, max_size=20
).filter(lambda text: text.isprintable() and text == text.strip())
_seconds = st.floats(0.001, 86400.0)
_waits = st.just(0.0) | _seconds
_tls = st.fixed_dictionaries(
    {},
    optional={
        "ca_file": _texts,
        "client_certificate_file": _texts,
        "server_name": st.sampled_from(["a.example", "::1", "10.0.0.1"]),
    },
)
_secrets = st.fixed_dictionaries({"file": _texts}) | st.just({"env": "SECRET"})
_certificates = st.fixed_dictionaries({"client_certificate_file": _texts}, optional={"ca_file": _texts})
_authentications = st.one_of(
    st.fixed_dictionaries({"client_secret": _secrets}, optional={"previous_client_secret": _secrets}),
    st.fixed_dictionaries(
        {"auth_method": st.sampled_from(["client_secret_basic", "client_secret_jwt"]), "client_secret": _secrets}
    ),
    st.fixed_dictionaries(
        {
            "auth_method": st.just("private_key_jwt"),
            "private_key": st.fixed_dictionaries(
                {"file": _texts},
                optional={
                    "key_id": _texts,
                    "algorithm": st.sampled_from(["RS256", "EdDSA", None]),
                    "certificate_file": _texts,
                },
            ),
        },
        optional={"assertion_audience": _texts},
    ),
    st.fixed_dictionaries(
        {"auth_method": st.just("client_assertion"), "client_assertion": st.fixed_dictionaries({"file": _texts})}
    ),
    st.fixed_dictionaries(
        {
            "auth_method": st.sampled_from(["tls_client_auth", "self_signed_tls_client_auth"]),
            "token_url": st.just("https://a.example/t"),
            "tls": _certificates,
        }
    ),
)
_endpoints = st.one_of(
    st.fixed_dictionaries(
        {"token_url": st.sampled_from(["https://a.example/t?x=%20", "http://localhost:1/t", "https://[::1]:2/"])}
    ),
    st.fixed_dictionaries({"issuer": st.sampled_from(["https://a.example/", "https://a.example/b", "http://[::1]:2"])}),
)
_others = st.fixed_dictionaries(
    {"client_id": _texts},
    optional={
        "audience": _texts,
        "scope": st.sampled_from(["a", "a b", "https://x/.default"]),
        "resource": st.lists(st.sampled_from(["https://a.example/", "urn:x:y"]), max_size=2),
        "extra_headers": st.dictionaries(st.sampled_from(["X-A", "User-Agent"]), st.just("a b")),
        "extra_params": st.dictionaries(_texts.map("x-{}".format), _texts, max_size=2),
        "default_lifetime": st.floats(1, 86400),
        "min_forced_refresh_interval": st.floats(1, 86400),
        "timeout": _seconds,
        "allow_plaintext": st.booleans(),
        "tls": _tls,
    },
)


@st.composite
def _credentials(draw: st.DrawFn) -> dict[str, Any]:
    """Draw an endpoint, what authenticates there, and the rest; TLS's methods bring an endpoint of their own."""
    authentication = draw(_authentications)
    endpoint = {} if "token_url" in authentication else draw(_endpoints)
    return {**draw(_others), **endpoint, **authentication}


_visitors = {
    "allowed_hosts": st.lists(st.sampled_from(["*", "a.example", "B.example.", "[::1]"]), max_size=2),
    "allowed_origins": st.lists(st.sampled_from(["*", "http://A.example:80", "chrome-extension://abc"]), max_size=2),
}
_rate_limits = st.fixed_dictionaries(
    {"limits": st.lists(st.sampled_from(["5/s", "20/min"]), min_size=1, max_size=2)},
    optional={"mode": st.sampled_from(["pace", "reject"]), "max_wait": _waits, "max_waiting": st.integers(0, 9)},
)
_header_edits = st.fixed_dictionaries(
    {}, optional={"set": st.dictionaries(st.sampled_from(["X-A", "X-B"]), st.just("a b")), "remove": st.just(["X-C"])}
)
_methods = st.lists(st.sampled_from(["GET", "POST", "M-SEARCH"]), min_size=1, max_size=2)
_paths = st.lists(st.sampled_from(["/", "/a/*/%c3%a9/", "/%61/**"]), min_size=1, max_size=2)
_allow = st.fixed_dictionaries({"methods": _methods}, optional={"paths": _paths | st.none()})
_routes = st.fixed_dictionaries(
    {
        "name": _names,
        "upstream": st.sampled_from(["https://a.example", "http://127.0.0.1:1/b", "https://[::1]:8443/x/y"]),
    },
    optional={
        "wait_for_token": _waits,
        "via": st.sampled_from(["p", None]),
        "tls": _tls,
        **_visitors,
        "authorization": st.sampled_from(["keep", "replace"]),
        "rewrite_location": st.booleans(),
        "rate_limits": st.lists(_rate_limits, max_size=2),
        "request_headers": _header_edits,
        "response_headers": _header_edits,
        "allow": st.lists(_allow, min_size=1, max_size=2) | st.none(),
        "timeouts": st.dictionaries(
            st.sampled_from(["connect", "tls_handshake", "response_head", "idle", "request_head", "keep_alive"]),
            _seconds,
        ),
        "limits": st.fixed_dictionaries(
            {},
            optional={
                "head": st.integers(8192, 2**20),
                "field_lines": st.integers(1, 10_000),
                "replay_buffer": st.integers(0, 2**20),
                "request_buffers": st.integers(2**20, 2**30),
            },
        ),
        "pool": st.fixed_dictionaries(
            {}, optional={"max_connections": st.integers(1, 65535), "acquire_timeout": _waits, "idle_timeout": _seconds}
        ),
    },
)


_listener_options = st.fixed_dictionaries(
    {},
    optional={
        **_visitors,
        "timeouts": st.dictionaries(st.sampled_from(["idle", "request_head", "keep_alive"]), _seconds),
        "limits": st.fixed_dictionaries({}, optional={"head": st.integers(8192, 2**20)}),
    },
)
_hosts = st.sampled_from([None, "a.example", "A.example", "[::1]", "10.0.0.1"])


_token_stores = st.one_of(
    st.fixed_dictionaries({"directory": _texts}),
    st.fixed_dictionaries({"directory": st.sampled_from(["", None])}),
    st.fixed_dictionaries(
        {
            "redis": st.fixed_dictionaries(
                {"url": st.sampled_from(["rediss://a.example", "redis://[::1]:7/15", "rediss://a.example:1/"])},
                optional={
                    "password": _secrets,
                    "tls": _tls,
                    "prefix": st.just("a:b/"),
                    "allow_plaintext": st.booleans(),
                },
            )
        }
    ),
)


def _shared(route: dict[str, Any], listener: str, path: str, host: str | None) -> dict[str, Any]:
    """Return a route that shares a listener: without the keys that the listener has."""
    client_side = {"timeouts": {"request_head", "keep_alive"}, "limits": {"head", "field_lines", "request_buffers"}}
    sections = {
        section: {key: value for key, value in route.get(section, {}).items() if key not in keys}
        for section, keys in client_side.items()
    }
    return {
        **{key: value for key, value in route.items() if key not in _visitors},
        **sections,
        "listener": listener,
        "match": {"path": path, "host": host},
        "strip_prefix": host is None,
    }


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    """Draw plain values that make settings."""
    credentials = draw(st.dictionaries(_names, _credentials(), min_size=1, max_size=3))
    routes = draw(st.lists(_routes, min_size=1, max_size=3, unique_by=lambda route: str(route["name"])))
    for index, route in enumerate(routes):
        route["credential"] = draw(st.sampled_from(sorted(credentials)))
        if draw(st.booleans()):
            routes[index] = _shared(route, "shared-by-routes", f"/{'a%2Db/' * index}x", draw(_hosts))
        else:
            route["listen"] = draw(
                st.sampled_from([f"127.0.0.1:{8080 + index}", "[::1]:0", f"localhost:{9000 + index}"])
            )
    data: dict[str, Any] = {"credentials": credentials, "routes": routes}
    if any("listener" in route for route in routes):
        data["listeners"] = {"shared-by-routes": {"listen": "127.0.0.1:7000", **draw(_listener_options)}}
    if draw(st.booleans()):
        data["token_store"] = {**draw(_token_stores), "encryption_key": draw(_secrets)}
    data["admin"] = {"listen": draw(st.sampled_from(["127.0.0.1:9901", None, "[::1]:1"]))}
    data["log"] = {
        "level": draw(st.sampled_from(["debug", "error"])),
        "access": draw(st.sampled_from(["all", "errors", "off"])),
    }
    data["shutdown"] = {"grace_period": draw(_waits)}
    return data
