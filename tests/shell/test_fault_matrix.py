"""Every fault in every state of the token, met by each method: with the real proxy and real fakes, in manual time."""

from __future__ import annotations

import pytest

from switch_proxy.core.tokens import Freshness
from tests.core.lifecycle_tables import PAGE
from tests.generated_tables import generated
from tests.shell.fault_matrix import FAULTS, METHODS, MOMENTS, SERVED, Fault, Method, expected, table, world


@pytest.mark.parametrize("method", METHODS, ids=lambda it: it.name)
@pytest.mark.parametrize("state", Freshness, ids=lambda it: it.name)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda it: it.name)
async def test_a_request_gets_what_the_matrix_says(fault: Fault, state: Freshness, method: Method) -> None:
    """
    So does the next one; both together cost what is computed, and when it is over, all is served in time.

    In the states STALE and EXPIRED the request finds the token so because nothing was done about it: it is the first
    to meet the fault, as after a machine's sleep.
    """
    async with world() as it:
        if state is Freshness.ABSENT:
            await fault.begin(it)
            await it.start()
        else:
            await it.start()
            await it.first_token()
            it.clock.skip(MOMENTS[state])
            await fault.begin(it)
        calls = 0 if state is Freshness.ABSENT else 1

        assert await it.send(method) == expected(fault, state, method)
        await it.fetch_ended()
        await it.send(method)
        assert len(it.auth.requests) - calls <= fault.calls

        await fault.end(it)
        await it.fetch_ended()
        await it.clock.advance(fault.recovered_within)
        await it.fetch_ended()
        assert await it.send(method) == SERVED


def test_the_page_has_the_matrix() -> None:
    """`make tables` writes it."""
    place = generated(PAGE.read_text(encoding="utf-8"), "fault matrix")
    assert place is not None
    assert place[0] == table()
