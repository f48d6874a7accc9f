"""How file descriptors are shared out between clients, upstreams, admin and the proxy's own needs."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch_proxy.core.descriptors import DescriptorShares, has_run_out, share_descriptors


@pytest.mark.parametrize(
    ("limit", "clients", "admin"),
    [
        pytest.param(64, 13, 8, id="very few"),
        pytest.param(256, 97, 32, id="few"),
        pytest.param(1024, 465, 64, id="the customary limit"),
        pytest.param(1024 * 1024, 524241, 64, id="a container's"),
        pytest.param(None, 524241, 64, id="no limit"),
        pytest.param(1, 1, 1, id="none to share"),
    ],
)
def test_clients_get_half_of_what_the_proxy_does_not_need_and_upstreams_as_many(
    limit: int | None, clients: int, admin: int
) -> None:
    shares = share_descriptors(limit, wanted=(None,), credentials=1, routes=1)
    assert shares == DescriptorShares(clients=(clients,), admin=admin, upstreams=clients)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        pytest.param((None, None), (231, 231), id="equal parts"),
        pytest.param((100, None), (100, 363), id="the rest"),
        pytest.param((100, 20), (100, 20), id="as wanted"),
        pytest.param((100, 363), (100, 363), id="all of it"),
        pytest.param((922, 461), (308, 154), id="in proportion, if it is too much"),
        pytest.param((461, None), (308, 154), id="something for one that says nothing"),
    ],
)
def test_listeners_get_what_they_want_as_far_as_there_is_enough(
    wanted: tuple[int | None, ...], expected: tuple[int, ...]
) -> None:
    assert share_descriptors(1024, wanted=wanted, credentials=1, routes=3).clients == expected


@given(
    st.integers(min_value=64, max_value=1 << 20),
    st.lists(st.none() | st.integers(min_value=1, max_value=100_000), min_size=1, max_size=5),
    st.integers(min_value=1, max_value=4),
)
def test_the_shares_never_exceed_the_limit(limit: int, wanted: list[int | None], credentials: int) -> None:
    """But by one for each listener, which gets one at least. What is kept is half of a small limit, and 24 or more of others."""
    shares = share_descriptors(limit, wanted=wanted, credentials=credentials, routes=len(wanted))
    assert all(each >= 1 for each in shares.clients)
    assert sum(shares.clients) <= shares.upstreams + len(wanted)
    assert sum(shares.clients) + shares.upstreams + shares.admin <= limit - min(24, limit // 2) + len(wanted)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(OSError(errno.EMFILE, ""), True, id="of the process"),
        pytest.param(OSError(errno.ENFILE, ""), True, id="of the system"),
        pytest.param(OSError(errno.ECONNREFUSED, ""), False, id="another error"),
        pytest.param(ValueError(), False, id="no error of the system"),
    ],
)
def test_an_error_may_say_that_there_is_no_descriptor_left(error: Exception, expected: bool) -> None:
    assert has_run_out(error) is expected
