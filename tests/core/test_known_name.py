"""What is known of a host name, and how long addresses are used that DNS no longer gives."""

from __future__ import annotations

import pytest

from switch_proxy.core.known_name import USED_FOR, KnownName, SocketAddress

ADDRESSES: tuple[SocketAddress, ...] = (("192.0.2.7", 0), ("2001:db8::7", 0, 0, 0))


def test_of_a_name_never_resolved_nothing_is_usable() -> None:
    assert KnownName().usable(0.0) == ()
    assert KnownName().failed("no response").usable(0.0) == ()


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        pytest.param(0.0, ADDRESSES, id="at once"),
        pytest.param(USED_FOR - 0.001, ADDRESSES, id="just before the end"),
        pytest.param(USED_FOR, (), id="at the end"),
        pytest.param(USED_FOR + 0.001, (), id="just after the end"),
    ],
)
def test_addresses_outlast_a_failure_for_a_bounded_time(after: float, expected: tuple[SocketAddress, ...]) -> None:
    known = KnownName().found(ADDRESSES, 1000.0).failed("no response").failed("another reason")
    assert known.error == "another reason"
    assert known.usable(1000.0 + after) == expected


def test_a_success_ends_the_failure_and_begins_the_time_anew() -> None:
    known = KnownName().found(ADDRESSES[:1], 1000.0).failed("no response").found(ADDRESSES[1:], 2000.0)
    assert known.error is None
    assert known.usable(2000.0 + USED_FOR - 1) == ADDRESSES[1:]


def test_a_name_that_dns_denies_has_no_addresses_any_more() -> None:
    """RFC 8767 §4: a response that says that there is no such name is an answer, not a failure."""
    known = KnownName().found(ADDRESSES, 1000.0).denied("no such name")
    assert (known.error, known.usable(1000.0)) == ("no such name", ())
