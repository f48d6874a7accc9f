"""Which requests may be sent twice."""

from __future__ import annotations

import pytest

from switch_proxy.core.http.replay import may_repeat


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"])
def test_an_idempotent_request_may_be_repeated_while_its_body_is_at_hand(method: bytes) -> None:
    """RFC 9110 §9.2.2: sent twice it has the effect of once; but it must be the same request."""
    assert may_repeat(method=method, body_is_whole=True)
    assert not may_repeat(method=method, body_is_whole=False)


@pytest.mark.parametrize("method", [b"POST", b"PATCH", b"CONNECT", b"LOCK", b"get", b""])
@pytest.mark.parametrize("body_is_whole", [True, False], ids=["whole", "gone"])
def test_a_request_that_may_have_had_its_effect_is_not_repeated(method: bytes, *, body_is_whole: bool) -> None:
    """RFC 9110 §9.2.2: what is not known to be idempotent is not repeated, and methods are case-sensitive."""
    assert not may_repeat(method=method, body_is_whole=body_is_whole)
