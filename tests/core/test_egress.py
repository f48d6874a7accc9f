"""Which egress proxy stands before an upstream, by HTTPS_PROXY and NO_PROXY."""

from __future__ import annotations

import pytest

from switch_proxy.core.egress import EgressProxy, find_egress_proxy, is_exempt
from switch_proxy.core.errors import InvalidValueError


def _find(host: str = "api.example.com", *, scheme: str = "https", **environ: str) -> EgressProxy | None:
    return find_egress_proxy(scheme=scheme, host=host, port=443, environ=environ)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        pytest.param("http://egress.example:8080", "egress.example", 8080, id="URL"),
        pytest.param("egress.example:8080", "egress.example", 8080, id="host and port"),
        pytest.param("http://egress.example", "egress.example", 3128, id="Squid's port by default"),
        pytest.param("http://[2001:db8::1]:8080/", "2001:db8::1", 8080, id="IPv6"),
    ],
)
def test_the_variable_names_the_proxy(url: str, host: str, port: int) -> None:
    found = _find(HTTPS_PROXY=url)
    assert found is not None
    assert (found.host, found.port, found.authorization) == (host, port, None)
    assert str(found) == f"{host}:{port}"


def test_a_user_in_the_variable_becomes_basic_credentials_that_are_not_shown() -> None:
    """RFC 7617: the pair is decoded from the URL before it is encoded."""
    found = _find(HTTPS_PROXY="http://app:p%40ss@egress.example:8080")
    assert found is not None
    assert found.authorization is not None
    assert found.authorization.reveal() == "Basic YXBwOnBAc3M="
    assert "YXBw" not in repr(found)


def test_a_user_without_a_password_has_an_empty_one() -> None:
    found = _find(HTTPS_PROXY="http://app@egress.example:8080")
    assert found is not None
    assert found.authorization is not None
    assert found.authorization.reveal() == "Basic YXBwOg=="


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param({}, id="no variable"),
        pytest.param({"HTTPS_PROXY": ""}, id="empty variable"),
        pytest.param({"HTTPS_PROXY": "http://egress.example:8080", "NO_PROXY": "example.com"}, id="exempt upstream"),
    ],
)
def test_an_upstream_without_a_proxy_is_reached_directly(environ: dict[str, str]) -> None:
    assert _find(**environ) is None


def test_a_plain_upstream_is_reached_directly() -> None:
    """A proxy would see its token."""
    assert _find(scheme="http", HTTPS_PROXY="http://egress.example:8080") is None


def test_the_lower_case_variables_win() -> None:
    found = _find(https_proxy="http://lower.example:1", HTTPS_PROXY="http://upper.example:2")
    assert found is not None
    assert found.host == "lower.example"


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("https://egress.example:8080", id="proxy by TLS"),
        pytest.param("http://", id="no host"),
        pytest.param("http://egress.example:0", id="port 0"),
        pytest.param("http://egress.example:65536", id="port too high"),
        pytest.param("http://egress.example:s3cret", id="port that is no number"),
        pytest.param("http://[egress.example:8080", id="bracket left open"),
    ],
)
def test_an_unusable_variable_is_an_error_that_does_not_repeat_it(url: str) -> None:
    """It may hold a password."""
    with pytest.raises(InvalidValueError, match="is not the address of an HTTP proxy") as caught:
        _find(HTTPS_PROXY=url)
    assert "egress.example" not in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "no_proxy", "is_expected"),
    [
        pytest.param("localhost", "", True, id="localhost"),
        pytest.param("127.8.8.8", "", True, id="loopback"),
        pytest.param("::1", "", True, id="loopback, IPv6"),
        pytest.param("api.example.com", "", False, id="nothing exempt"),
        pytest.param("api.example.com", "api.example.com", True, id="itself"),
        pytest.param("API.example.com.", "api.EXAMPLE.com", True, id="in another spelling"),
        pytest.param("api.example.com", "other.example, example.com", True, id="its domain"),
        pytest.param("api.example.com", ".example.com", True, id="its domain with a dot"),
        pytest.param("api.example.com", "*.example.com", True, id="its domain with a star"),
        pytest.param("api.notexample.com", "example.com", False, id="another domain with the same end"),
        pytest.param("api.example.com", "*", True, id="all"),
        pytest.param("api.example.com", " , .", False, id="empty entries"),
        pytest.param("2001:db8::1", "[2001:db8::1]", True, id="IPv6 in brackets"),
        pytest.param("::ffff:127.0.0.1", "", True, id="loopback, IPv4 in IPv6"),
        pytest.param("127.example.com", "", False, id="a name that begins like loopback"),
        pytest.param("c.example", "a.example b.example\tc.example", True, id="blanks in place of commas"),
        pytest.param("c.example", "a.example ,, c.example", True, id="blanks and commas"),
    ],
)
def test_no_proxy_exempts_hosts_and_their_domains(host: str, no_proxy: str, *, is_expected: bool) -> None:
    assert is_exempt(host, 443, no_proxy) is is_expected


@pytest.mark.parametrize(
    ("host", "no_proxy", "is_expected"),
    [
        pytest.param("10.1.2.3", "10.0.0.0/8", True, id="in the network"),
        pytest.param("11.0.0.0", "10.0.0.0/8", False, id="one after the network"),
        pytest.param("10.1.2.3", "10.1.2.3/8", True, id="a network with bits of a host"),
        pytest.param("10.1.2.3", "10.1.2.3/32", True, id="a network of one"),
        pytest.param("2001:db8:1::1", "2001:db8::/32", True, id="in the network, IPv6"),
        pytest.param("2001:db8:1::1", "[2001:db8::]/32", False, id="brackets around a part"),
        pytest.param("10.1.2.3", "2001:db8::/32", False, id="a network of the other family"),
        pytest.param("10.1.2.3", "10.0.0.0/33", False, id="no network"),
        pytest.param("10.1.2.3", "/8", False, id="no address"),
        pytest.param("api.example.com", "10.0.0.0/8", False, id="a name is not resolved"),
        pytest.param("2001:db8::1", "2001:0DB8:0:0::1", True, id="the same address in another form"),
        pytest.param("::ffff:10.1.2.3", "10.0.0.0/8", True, id="IPv4 in IPv6"),
        pytest.param("10.1.2.3", "1.2.3", False, id="the end of an address"),
        pytest.param("10.1.2.3", ".2.3", False, id="the end of an address with a dot"),
        pytest.param("0.0.0.0", "0.0.0.0/0", True, id="all of IPv4"),
    ],
)
def test_no_proxy_compares_addresses_as_addresses(host: str, no_proxy: str, *, is_expected: bool) -> None:
    """As Go and curl do; every cluster lists its networks."""
    assert is_exempt(host, 443, no_proxy) is is_expected


@pytest.mark.parametrize(
    ("host", "no_proxy", "is_expected"),
    [
        pytest.param("api.example.com", "api.example.com:443", True, id="its port"),
        pytest.param("api.example.com", "api.example.com:8443", False, id="another port"),
        pytest.param("api.example.com", "example.com:443", True, id="its domain's port"),
        pytest.param("10.1.2.3", "10.1.2.3:443", True, id="an address and its port"),
        pytest.param("10.1.2.3", "10.1.2.3:80", False, id="an address and another port"),
        pytest.param("2001:db8::1", "[2001:db8::1]:443", True, id="IPv6 and its port"),
        pytest.param("2001:db8::1", "[2001:db8::1]:80", False, id="IPv6 and another port"),
        pytest.param("2001:db8::443", "2001:db8::443", True, id="the end of IPv6 is no port"),
        pytest.param("api.example.com", "api.example.com:https", False, id="no number"),
    ],
)
def test_an_entry_with_a_port_is_for_that_port_alone(host: str, no_proxy: str, *, is_expected: bool) -> None:
    assert is_exempt(host, 443, no_proxy) is is_expected
