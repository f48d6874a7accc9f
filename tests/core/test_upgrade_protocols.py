"""core/upgrade_protocols.py: which protocols pass, and what an upstream may switch to."""

from __future__ import annotations

import pytest

from switch_proxy.core.errors import InvalidValueError
from switch_proxy.core.upgrade_protocols import is_switch_to_an_offer, offers_that_pass, parse_protocol


@pytest.mark.parametrize(
    ("text", "protocol"), [("websocket", "websocket"), ("WebSocket", "websocket"), ("IRC/6.9", "irc/6.9")]
)
def test_a_protocol_is_kept_in_lower_case(text: str, protocol: str) -> None:
    assert parse_protocol(text) == protocol


@pytest.mark.parametrize("text", ["", "a b", "a,b", "a/", "/1", "a/1/2", "å"])
def test_what_is_no_protocol_is_refused(text: str) -> None:
    with pytest.raises(InvalidValueError, match="not the name of a protocol"):
        parse_protocol(text)


@pytest.mark.parametrize("text", ["h2c", "H2C", "h2", "HTTP", "HTTP/2.0", "http/1.1", "TLS/1.2", "tls"])
def test_a_protocol_that_carries_requests_cannot_be_listed(text: str) -> None:
    """The requests behind the switch would have no access token."""
    with pytest.raises(InvalidValueError, match="is never passed"):
        parse_protocol(text)


@pytest.mark.parametrize(
    ("values", "allowed", "passed"),
    [
        pytest.param([b"websocket"], {b"websocket"}, b"websocket", id="listed"),
        pytest.param([b"WebSocket"], {b"websocket"}, b"WebSocket", id="listed, in another case"),
        pytest.param([b"websocket"], set(), None, id="nothing is listed"),
        pytest.param([b"a/2"], {b"a"}, b"a/2", id="every version"),
        pytest.param([b"a/2, a/1"], {b"a/1"}, b"a/1", id="one version"),
        pytest.param([b"a"], {b"a/1"}, None, id="no version, where one is listed"),
        pytest.param([b"b, x ,a", b"", b"a/1"], {b"a", b"b"}, b"b, a, a/1", id="several"),
        pytest.param([b"h2c"], {b"h2c"}, None, id="h2c"),
        pytest.param([b"HTTP/2.0, TLS/1.0"], {b"http", b"tls/1.0"}, None, id="HTTP and TLS"),
    ],
)
def test_the_offers_that_are_listed_pass(values: list[bytes], allowed: set[bytes], passed: bytes | None) -> None:
    assert offers_that_pass(values, allowed=allowed) == passed


@pytest.mark.parametrize(
    ("switched_to", "offers", "is_right"),
    [
        pytest.param(b"websocket", b"websocket", True, id="the one"),
        pytest.param(b"WEBSOCKET", b"WebSocket", True, id="in another case"),
        pytest.param(b"b", b"a, b", True, id="one of two"),
        pytest.param(b"a,b", b"a, b", True, id="both, one above the other"),
        pytest.param(b"a, h2c", b"a", False, id="one more"),
        pytest.param(b"h2c", b"a", False, id="another"),
        pytest.param(b"a/2", b"a/1", False, id="another version"),
    ],
)
def test_a_switch_is_to_what_was_offered(switched_to: bytes, offers: bytes, *, is_right: bool) -> None:
    """RFC 9110 §7.8."""
    assert is_switch_to_an_offer(switched_to, offers=offers) is is_right
