"""Addresses to listen on and origins to send to."""

from __future__ import annotations

import contextlib
import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch_proxy.core.addresses import (
    Address,
    Origin,
    bind_hint,
    is_loopback_host,
    parse_address,
    parse_endpoint,
    parse_host,
    parse_origin,
    parse_redis_address,
)
from switch_proxy.core.errors import InvalidValueError


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        pytest.param("127.0.0.1:8080", "127.0.0.1", 8080, id="IPv4"),
        pytest.param("[::1]:8080", "::1", 8080, id="IPv6 in brackets"),
        pytest.param("[0:0:0:0:0:0:0:1]:80", "::1", 80, id="IPv6 in its long form"),
        pytest.param("[fe80::1%eth0]:80", "fe80::1%eth0", 80, id="IPv6 with a zone"),
        pytest.param("localhost:8080", "localhost", 8080, id="name"),
        pytest.param("0.0.0.0:0", "0.0.0.0", 0, id="all addresses, any port"),
        pytest.param("a_b.svc.:1", "a_b.svc.", 1, id="container's name with the root's dot"),
    ],
)
def test_address_is_host_and_port(text: str, host: str, port: int) -> None:
    assert parse_address(text) == Address(host=host, port=port)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        pytest.param("8080", "such as 127.0.0.1:8080", id="port alone"),
        pytest.param("127.0.0.1", "such as 127.0.0.1:8080", id="host alone"),
        pytest.param(":8080", "127.0.0.1:8080 for this pod alone", id="port after a colon"),
        pytest.param("::1:8080", "in brackets", id="IPv6 without brackets"),
        pytest.param("[::1]", "such as 127.0.0.1:8080", id="IPv6 without port"),
        pytest.param("[127.0.0.1]:80", "no valid IPv6", id="IPv4 in brackets"),
        pytest.param("[::g]:80", "no valid IPv6", id="no hexadecimal digit"),
        pytest.param("127.0.0.1:65536", "above 65535", id="port one too high"),
        pytest.param("127.0.0.1:http", "such as 127.0.0.1:8080", id="service's name"),
        pytest.param("256.0.0.1:80", "from 0 to 255", id="IPv4 out of range"),
        pytest.param("127.1:80", "from 0 to 255", id="IPv4 in its short form"),
        pytest.param("http://127.0.0.1:80", "begins with a scheme", id="URL"),
        pytest.param("a b:80", "no valid host name", id="space"),
        pytest.param("-a:80", "no valid host name", id="hyphen first"),
        pytest.param("bücher:80", "xn--", id="letters outside ASCII"),
        pytest.param("", "such as 127.0.0.1:8080", id="nothing"),
    ],
)
def test_text_that_is_no_address_is_refused_with_the_right_form(text: str, advice: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        parse_address(text)
    assert advice in caught.value.predicate


@given(st.ip_addresses(), st.integers(0, 65535))
def test_address_that_was_written_reads_as_the_same(host: object, port: int) -> None:
    address = Address(host=str(host), port=port)
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        pytest.param("https://api.example.com", Origin(scheme="https", host="api.example.com", port=443), id="https"),
        pytest.param("http://api.example.com", Origin(scheme="http", host="api.example.com", port=80), id="http"),
        pytest.param(
            "HTTPS://API.Example.com/",
            Origin(scheme="https", host="api.example.com", port=443),
            id="capitals and slash",
        ),
        pytest.param(
            "https://a:8443/v1/x/",
            Origin(scheme="https", host="a", port=8443, base_path="/v1/x"),
            id="port and base path",
        ),
        pytest.param(
            "https://[2001:db8::1]:8443", Origin(scheme="https", host="2001:db8::1", port=8443), id="IPv6 with port"
        ),
        pytest.param("https://[::1]", Origin(scheme="https", host="::1", port=443), id="IPv6 without port"),
        pytest.param(
            "https://a/b%20c/@x",
            Origin(scheme="https", host="a", port=443, base_path="/b%20c/@x"),
            id="escapes in the path",
        ),
    ],
)
def test_origin_is_scheme_host_port_and_base_path(text: str, origin: Origin) -> None:
    assert parse_origin(text) == origin


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        pytest.param("api.example.com", "is not a URL", id="no scheme"),
        pytest.param("ftp://a", "scheme other than", id="other scheme"),
        pytest.param("https://", "names no host", id="no host"),
        pytest.param("https:///path", "names no host", id="path alone"),
        pytest.param("https://user@a", "user or password", id="user"),
        pytest.param("https://user:hunter2@a", "user or password", id="user and password"),
        pytest.param("https://a?x=1", "has a query", id="query"),
        pytest.param("https://a/b?", "has a query", id="empty query"),
        pytest.param("https://a#b", "has a fragment", id="fragment"),
        pytest.param("https://a:0", "from 1 to 65535", id="port 0"),
        pytest.param("https://a:65536", "from 1 to 65535", id="port one too high"),
        pytest.param("https://a:", "no valid host and port", id="colon without port"),
        pytest.param("https://a:b", "no valid host and port", id="port of letters"),
        pytest.param("https://2001:db8::1", "without brackets", id="IPv6 without brackets"),
        pytest.param("https://[fe80::1%25eth0]", "zone", id="IPv6 with a zone"),
        pytest.param("https://[::1", "no valid host and port", id="bracket left open"),
        pytest.param("https://a b", "no valid host name", id="space in the host"),
        pytest.param("https://a/b c", "percent-encode", id="space in the path"),
        pytest.param("https://a/ä", "percent-encode", id="letter outside ASCII in the path"),
        pytest.param("https://a/%zz", "percent-encode", id="broken escape"),
        pytest.param("https://a/../b", ". or .. segment", id="way up"),
        pytest.param("https://a/b/%2E%2e", ". or .. segment", id="way up in escapes"),
        pytest.param("https://bücher.example", "xn--", id="letters outside ASCII in the host"),
        pytest.param("https://a\r\nHost: b", "no valid host", id="line break"),
    ],
)
def test_text_that_is_no_origin_is_refused_with_the_right_form(text: str, advice: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        parse_origin(text)
    assert advice in caught.value.predicate


def test_url_that_is_refused_is_not_shown() -> None:
    """A URL may have a password in it, so no complaint about one holds a part of it or allows to show it."""
    with pytest.raises(InvalidValueError) as caught:
        parse_origin("https://user:hunter2@api.example.com")
    assert (caught.value.is_safe_to_echo, "hunter2" in str(caught.value)) == (False, False)


@pytest.mark.parametrize(
    ("origin", "host_header"),
    [
        (Origin(scheme="https", host="a", port=443), "a"),
        (Origin(scheme="https", host="a.", port=443), "a"),
        (Origin(scheme="https", host="a.", port=8443), "a:8443"),
        (Origin(scheme="http", host="a", port=80), "a"),
        (Origin(scheme="https", host="a", port=80), "a:80"),
        (Origin(scheme="https", host="::1", port=443), "[::1]"),
        (Origin(scheme="http", host="::1", port=8080), "[::1]:8080"),
    ],
    ids=str,
)
def test_host_header_has_the_port_only_where_it_is_not_the_schemes_own(origin: Origin, host_header: str) -> None:
    """RFC 9110 §7.2 with §4.2.3."""
    assert origin.host_header == host_header


_origins = st.builds(
    Origin,
    scheme=st.sampled_from(["http", "https"]),
    host=st.ip_addresses().map(str) | st.from_regex(r"[a-z][a-z0-9]{0,9}(\.[a-z][a-z0-9]{0,9}){0,3}", fullmatch=True),
    port=st.integers(1, 65535),
    base_path=st.from_regex(r"(/[A-Za-z0-9_~!$&'()*+,;=:@-]{1,5}){0,3}", fullmatch=True),
)


@given(_origins)
def test_origin_that_was_written_reads_as_the_same(origin: Origin) -> None:
    assert parse_origin(str(origin)) == origin


@given(st.text())
def test_any_text_gives_an_address_or_a_complaint(text: str) -> None:
    for parse in (parse_origin, parse_endpoint, parse_address, parse_host, parse_redis_address):
        with contextlib.suppress(InvalidValueError):
            parse(text)


def test_token_endpoint_may_have_a_query() -> None:
    """RFC 6749 §3.2."""
    assert parse_endpoint("https://a/oauth/token?tenant=1") == Origin(
        scheme="https", host="a", port=443, base_path="/oauth/token"
    )


@pytest.mark.parametrize("text", ["https://a/t#f", "https://u@a/t", "https://a/t?a b", "a/t"], ids=str)
def test_token_endpoint_that_is_no_plain_url_is_refused(text: str) -> None:
    with pytest.raises(InvalidValueError):
        parse_endpoint(text)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.255.255.254",
        "::1",
        "::ffff:127.0.0.1",
        "localhost",
        "LocalHost",
        "app.localhost",
        "localhost.",
    ],
)
def test_host_on_this_machine_is_loopback(host: str) -> None:
    assert is_loopback_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "0.0.0.0",
        "::",
        "128.0.0.1",
        "10.0.0.1",
        "::2",
        "::ffff:10.0.0.1",
        "localhost.example.com",
        "notlocalhost",
        "127.0.0.1.example.com",
        "",
    ],
)
def test_host_that_others_may_be_is_not_loopback(host: str) -> None:
    assert not is_loopback_host(host)


@pytest.mark.parametrize(
    ("one", "other", "clashes"),
    [
        pytest.param("127.0.0.1:80", "127.0.0.1:80", True, id="same address"),
        pytest.param("127.0.0.1:80", "127.0.0.1:81", False, id="other port"),
        pytest.param("127.0.0.1:0", "127.0.0.1:0", False, id="any free port"),
        pytest.param("127.0.0.1:80", "127.0.0.2:80", False, id="other loopback address"),
        pytest.param("127.0.0.1:80", "[::1]:80", False, id="other family"),
        pytest.param("0.0.0.0:80", "127.0.0.1:80", True, id="all of IPv4"),
        pytest.param("0.0.0.0:80", "[::1]:80", False, id="all of the other family"),
        pytest.param("[::]:80", "127.0.0.1:80", True, id="all of both families and IPv4"),
        pytest.param("[::]:80", "0.0.0.0:80", True, id="all of both families and all of IPv4"),
        pytest.param("[::0]:80", "127.0.0.1:80", True, id="all of both families, in another form"),
        pytest.param("[::]:80", "[::1]:80", True, id="all of IPv6"),
        pytest.param("localhost:80", "127.0.0.1:80", True, id="localhost and its IPv4 address"),
        pytest.param("localhost:80", "[::1]:80", True, id="localhost and its IPv6 address"),
        pytest.param("localhost:80", "LOCALHOST:80", True, id="localhost twice"),
        pytest.param("a.example:80", "A.example.:80", True, id="name twice"),
        pytest.param("a.example:80", "0.0.0.0:80", False, id="name of which nothing is known"),
    ],
)
def test_addresses_clash_where_one_covers_the_other(one: str, other: str, clashes: bool) -> None:
    first, second = parse_address(one), parse_address(other)
    assert (first.clashes_with(second), second.clashes_with(first)) == (clashes, clashes)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("::", True), ("0.0.0.0", False), ("::1", False), ("::ffff:0.0.0.0", False), ("a.example", False)],
)
def test_all_of_ipv6_stands_for_both_families(host: str, *, expected: bool) -> None:
    assert Address(host=host, port=80).is_of_both_families is expected


@pytest.mark.parametrize("text", ["http://127.0.0.1:8080", "https://0.0.0.0:8443/", "tcp://[::1]:80"])
def test_an_address_with_a_scheme_is_told_as_such(text: str) -> None:
    with pytest.raises(InvalidValueError, match="begins with a scheme such as http://") as caught:
        parse_address(text)
    assert "brackets" not in str(caught.value)


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.EADDRINUSE, "another process"),
        (errno.EACCES, "privileged"),
        (errno.EPERM, "privileged"),
        (errno.EADDRNOTAVAIL, "no interface of this machine"),
    ],
)
def test_an_address_that_cannot_be_bound_gets_the_hint_of_its_cause(number: int, hint: str) -> None:
    assert hint in bind_hint(number)
    assert bind_hint(errno.EMFILE) == bind_hint(None) == ""


@pytest.mark.parametrize("text", ["https://a.example.", "https://a.example.:8443/base"])
def test_the_roots_dot_is_for_dns_alone(text: str) -> None:
    """RFC 6066 §3: TLS and certificates know names without it, and so does Host; the origin is written as it was."""
    origin = parse_origin(text)
    assert (origin.host, origin.server_name, str(origin)) == ("a.example.", "a.example", text)


@pytest.mark.parametrize(
    ("text", "written", "is_loopback"),
    [
        ("redis://localhost", "redis://localhost:6379/0", True),
        ("rediss://Cache.example.com:6380/15", "rediss://cache.example.com:6380/15", False),
        ("REDISS://[2001:db8::1]/", "rediss://[2001:db8::1]:6379/0", False),
    ],
)
def test_a_redis_server_is_host_port_and_database(text: str, written: str, *, is_loopback: bool) -> None:
    address = parse_redis_address(text)
    assert (str(address), address.is_loopback) == (written, is_loopback)
    assert parse_redis_address(str(address)) == address


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("https://cache.example.com", "is not the URL of a Redis server"),
        ("cache.example.com:6379", "is not the URL of a Redis server"),
        ("rediss://user:hunter2@cache.example.com", "has a user or password before the host"),
        ("rediss://cache.example.com?ssl_cert_reqs=none", "has options"),
        ("rediss://cache.example.com#0", "has options"),
        ("rediss:///0", "names no host"),
        ("rediss://cache.example.com/zero", "has a path that is not the number of a database"),
        ("rediss://cache.example.com:0", "has no valid port"),
    ],
)
def test_text_that_is_no_redis_server_is_refused_with_the_right_form(text: str, advice: str) -> None:
    with pytest.raises(InvalidValueError, match=advice) as raised:
        parse_redis_address(text)
    assert "hunter2" not in str(raised.value)
