"""Which requests may be sent twice."""

from __future__ import annotations

import pytest

from switch_proxy.core.http.resend import may_use_new_connection, may_use_newer_token


def after_a_stale_connection(method: bytes, **changes: bool) -> bool:
    facts = {"body_is_whole": True, "was_used_before": True, "has_received": False, "has_done_so": False, **changes}
    return may_use_new_connection(method=method, **facts)


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"QUERY", b"PUT", b"DELETE"])
def test_an_idempotent_request_may_be_repeated_while_its_body_is_at_hand(method: bytes) -> None:
    """RFC 9110 §9.2.2: sent twice it has the effect of once; but it must be the same request."""
    assert after_a_stale_connection(method)
    assert not after_a_stale_connection(method, body_is_whole=False)


@pytest.mark.parametrize("method", [b"POST", b"PATCH", b"CONNECT", b"TRACE", b"LOCK", b"get", b""])
@pytest.mark.parametrize("body_is_whole", [True, False], ids=["whole", "gone"])
def test_a_request_that_may_have_had_its_effect_is_not_repeated(method: bytes, *, body_is_whole: bool) -> None:
    """RFC 9110 §9.2.2: what is not known to be idempotent is not repeated, and methods are case-sensitive."""
    assert not after_a_stale_connection(method, body_is_whole=body_is_whole)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"was_used_before": False}, id="a new connection is not stale"),
        pytest.param({"has_received": True}, id="the upstream had begun to answer"),
        pytest.param({"has_done_so": True}, id="once is enough"),
    ],
)
def test_only_a_stale_connection_is_replaced_and_only_once(changes: dict[str, bool]) -> None:
    assert not after_a_stale_connection(b"GET", **changes)


@pytest.mark.parametrize(
    ("body_is_whole", "is_body_sent", "may"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_a_refused_request_may_be_repeated_once_all_of_it_is_sent_and_kept(
    *, body_is_whole: bool, is_body_sent: bool, may: bool
) -> None:
    assert may_use_newer_token(body_is_whole=body_is_whole, is_body_sent=is_body_sent) is may
