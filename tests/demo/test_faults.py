"""Fault scripts as data: which fault applies to which request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from switch_proxy.demo.faults import (
    Close,
    Delay,
    Fault,
    FaultScript,
    Hang,
    Lifetime,
    Reset,
    SlowBody,
    StalledBody,
    Status,
    TokenField,
    TruncatedBody,
)

if TYPE_CHECKING:
    from collections.abc import Callable

DOWN = Status(code=503)


@pytest.fixture
def script() -> FaultScript[Fault]:
    return FaultScript()


def test_a_new_script_lets_every_request_pass(script: FaultScript[Fault]) -> None:
    """Without faults a fake responds normally."""
    assert script.take("GET", "/") == ()
    assert script.is_empty


def test_a_fault_is_met_once_unless_said_otherwise(script: FaultScript[Fault]) -> None:
    """The default is only the next request."""
    script.add(DOWN)

    assert [script.take("GET", "/"), script.take("GET", "/")] == [(DOWN,), ()]


def test_a_fault_given_three_times_is_met_by_three_requests(script: FaultScript[Fault]) -> None:
    """`times` counts requests."""
    script.add(DOWN, times=3)

    assert [script.take("GET", "/") for _ in range(4)] == [(DOWN,), (DOWN,), (DOWN,), ()]


def test_a_fault_without_a_number_is_met_until_cleared(script: FaultScript[Fault]) -> None:
    """`times=None` never runs out; `clear` ends it."""
    script.add(DOWN, times=None)

    assert {script.take("GET", "/") for _ in range(100)} == {(DOWN,)}
    script.clear()
    assert script.take("GET", "/") == ()


def test_faults_are_met_in_the_order_they_were_added(script: FaultScript[Fault]) -> None:
    """First in, first out."""
    script.add(Reset(), times=2)
    script.add(DOWN)

    assert [script.take("GET", "/") for _ in range(4)] == [(Reset(),), (Reset(),), (DOWN,), ()]


def test_faults_added_together_are_met_together(script: FaultScript[Fault]) -> None:
    """The faults of one call apply together."""
    script.add(Delay(seconds=0.1), DOWN)

    assert script.take("GET", "/") == (Delay(seconds=0.1), DOWN)


@pytest.mark.parametrize(
    ("method", "path", "is_met"),
    [
        pytest.param("POST", "/api/readings", True, id="method and path"),
        pytest.param("GET", "/api/readings", False, id="other method"),
        pytest.param("POST", "/api/meter", False, id="other path"),
        pytest.param("POST", "/api/readings/", False, id="longer path"),
    ],
)
def test_a_confined_fault_waits_for_a_request_that_matches(
    script: FaultScript[Fault], method: str, path: str, *, is_met: bool
) -> None:
    """`method` and `path` limit a fault; a request that does not match leaves it unused."""
    script.add(DOWN, method="POST", path="/api/readings")

    assert (script.take(method, path) == (DOWN,)) is is_met
    assert script.is_empty is is_met


def test_faults_of_a_with_block_come_first_and_end_with_it(script: FaultScript[Fault]) -> None:
    """`during` applies within its block and does not change earlier faults."""
    script.add(DOWN)
    with script.during(Hang()):
        assert [script.take("GET", "/") for _ in range(2)] == [(Hang(),), (Hang(),)]

    assert script.take("GET", "/") == (DOWN,)


def test_faults_of_a_with_block_end_when_it_raises(script: FaultScript[Fault]) -> None:
    """A failing test leaves no faults for the next one."""
    with pytest.raises(LookupError), script.during(Hang()):
        raise LookupError

    assert script.is_empty


@pytest.mark.parametrize(
    ("build", "message"),
    [
        pytest.param(lambda: FaultScript[Fault]().add(), "no fault was given", id="no fault"),
        pytest.param(lambda: FaultScript[Fault]().add(DOWN, times=0), "times must be at least 1", id="zero times"),
        pytest.param(
            lambda: FaultScript[Fault]().add(DOWN, path="/a?b=c"), "without the query", id="path with a query"
        ),
        pytest.param(lambda: FaultScript[Fault]().add(Reset(), Close()), "Reset and Close", id="two endings"),
        pytest.param(
            lambda: FaultScript[Fault]().add(TruncatedBody(after=1), SlowBody(pause=0)),
            "TruncatedBody and SlowBody",
            id="two ways of sending",
        ),
        pytest.param(lambda: Delay(seconds=-1), "must not be negative", id="negative delay"),
        pytest.param(lambda: Status(code=101), "final status", id="interim status"),
        pytest.param(lambda: Lifetime(seconds=0), "must be positive", id="no lifetime"),
        pytest.param(lambda: TruncatedBody(after=-1), "must not be negative", id="negative cut"),
        pytest.param(lambda: StalledBody(after=-1), "must not be negative", id="negative stall"),
        pytest.param(lambda: SlowBody(pause=0, piece=0), "at least one byte", id="empty pieces"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused_where_it_is_written(build: Callable[[], object], message: str) -> None:
    """A mistake in a test's faults is an error at once, not a missing fault."""
    with pytest.raises(ValueError, match=message):
        build()


def test_a_token_field_that_is_no_json_is_refused_where_it_is_written() -> None:
    """A value that JSON cannot hold cannot be in a token response."""
    with pytest.raises(TypeError):
        TokenField(name="scope", value={1, 2})


def test_the_repr_tells_what_is_to_come(script: FaultScript[Fault]) -> None:
    """A failing assertion on a script shows the remaining faults."""
    script.add(DOWN, times=2)

    assert repr(script) == "<FaultScript (Status(code=503, retry_after=None),), 2 times>"
