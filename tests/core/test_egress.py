"""Which egress proxy stands before an upstream, by HTTPS_PROXY and NO_PROXY."""

from __future__ import annotations

import pytest

from switch_proxy.core.egress import EgressProxy, find_egress_proxy, is_exempt
from switch_proxy.core.errors import InvalidValueError


def _find(host: str = "api.example.com", *, scheme: str = "https", **environ: str) -> EgressProxy | None:
    return find_egress_proxy(scheme=scheme, host=host, environ=environ)


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
    ],
)
def test_no_proxy_exempts_hosts_and_their_domains(host: str, no_proxy: str, *, is_expected: bool) -> None:
    assert is_exempt(host, no_proxy) is is_expected
