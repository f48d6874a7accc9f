"""
What core/lifecycle.py does, as tables: each cell is found by asking it.

`make tables` writes them into docs/token-lifecycle.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from switch_proxy.core.backoff import Lane
from switch_proxy.core.errors import (
    TokenEndpointUnavailableError,
    TokenQuotaExhaustedError,
    TokenRequestRefusedError,
    TokenResponseInvalidError,
)
from switch_proxy.core.lifecycle import (
    BackingOff,
    CredentialsChanged,
    Effect,
    Event,
    Failed,
    Fetched,
    Fetching,
    Idle,
    Phase,
    Publish,
    Refuse,
    Rejected,
    Serve,
    StartFetch,
    Stopped,
    Stopping,
    Ticked,
    TokenState,
    Wait,
    WakeAt,
    WakeWaiters,
    decide_request,
    step,
)
from switch_proxy.core.pace import most_requests
from switch_proxy.core.secret import Secret
from switch_proxy.core.tokens import Freshness, TokenGrant, issue
from tests.generated_tables import markdown, write

PAGE: Final = Path(__file__).parents[2] / "docs" / "token-lifecycle.md"

GRANT: Final = TokenGrant(value=Secret("a-token"), lifetime=1000.0, scope=None)
TOKEN: Final = issue(GRANT, generation=7, sent_at=10_000.0, jitter=0.5)
"""Fresh until 10 800, usable until 10 990."""

MOMENTS: Final = {
    Freshness.ABSENT: 10_100.0,
    Freshness.FRESH: 10_100.0,
    Freshness.STALE: 10_800.0,
    Freshness.EXPIRED: 10_990.0,
}

PHASES: Final = ("IDLE", "FETCHING", "BACKING_OFF")


def state_at(freshness: Freshness, phase: str) -> tuple[TokenState, float]:
    """Return a state of this freshness and phase, and its moment."""
    now = MOMENTS[freshness]
    token = None if freshness is Freshness.ABSENT else TOKEN
    phases: dict[str, Phase] = {
        "IDLE": Idle(wake_at=now if token is None else token.refresh_at),
        "FETCHING": Fetching(since=now - 1),
        "BACKING_OFF": BackingOff(until=now + 20, lane=Lane.TRANSIENT),
        "STOPPED": Stopped(),
    }
    return TokenState(phase=phases[phase], token=token), now


def what_a_request_gets(freshness: Freshness, phase: str) -> str:
    """Return what becomes of a request that comes now, in words."""
    state, now = state_at(freshness, phase)
    state, effects = step(state, Ticked(), now, 0.5)
    begins = "start a fetch, " if StartFetch() in effects else ""
    match decide_request(state, now):
        case Serve():
            return begins + "serve"
        case Wait():
            return begins + "wait" if begins else "wait, then 503"
        case Refuse():
            return begins + "503 at once, with Retry-After"


def requests_table() -> str:
    """Return the table of what a request gets, in Markdown."""
    rows = [[f.name, *(what_a_request_gets(f, phase) for phase in PHASES)] for f in Freshness]
    return markdown(["token", *(f"`{phase}`" for phase in PHASES)], rows)


_REFUSED: Final = Failed(error=TokenRequestRefusedError("no"))
_OUTAGE: Final = Failed(error=TokenEndpointUnavailableError("down"))
_EXHAUSTED: Final = Failed(error=TokenQuotaExhaustedError("used up", exhausted_until=20_000.0))
_UNUSABLE: Final = Failed(error=TokenResponseInvalidError("what?", may_have_cost_token=True))
_NOW: Final = 10_900.0
_STARTS: Final[dict[str, Phase]] = {
    "`IDLE`": Idle(wake_at=_NOW),
    "`FETCHING`": Fetching(since=_NOW - 1),
    "`BACKING_OFF`, outage": BackingOff(until=_NOW, lane=Lane.TRANSIENT),
    "`BACKING_OFF`, refused": BackingOff(until=_NOW, lane=Lane.REFUSED),
    "`BACKING_OFF`, unusable": BackingOff(until=_NOW, lane=Lane.UNUSABLE),
    "`BACKING_OFF`, exhausted": BackingOff(until=_NOW, lane=Lane.EXHAUSTED),
}
_EVENTS: Final[dict[str, Event]] = {
    "the time has come": Ticked(),
    "a token has arrived": Fetched(grant=GRANT),
    "the fetch failed: outage": _OUTAGE,
    "the fetch failed: refused": _REFUSED,
    "the fetch failed: unusable": _UNUSABLE,
    "the fetch failed: exhausted": _EXHAUSTED,
    "401 for the newest token": Rejected(generation=TOKEN.generation),
    "401 for an older token": Rejected(generation=TOKEN.generation - 1),
    "another secret": CredentialsChanged(),
    "the proxy stops": Stopping(),
}
_IMPOSSIBLE: Final = {Fetched, Failed}
_NAMES: Final[dict[type[Phase], str]] = {
    Idle: "IDLE",
    Fetching: "FETCHING",
    BackingOff: "BACKING_OFF",
    Stopped: "STOPPED",
}
_EFFECTS: Final[dict[type[Effect], str]] = {
    StartFetch: "fetch",
    WakeAt: "set timer",
    Publish: "use it",
    WakeWaiters: "wake waiters",
}


def transitions_table() -> str:
    """Return the table of what happens in each phase at each event, in Markdown."""
    rows = [[said, *(_transition(phase, event) for phase in _STARTS.values())] for said, event in _EVENTS.items()]
    return markdown(["event", *_STARTS], rows)


def _transition(phase: Phase, event: Event) -> str:
    before = TokenState(phase=phase, token=TOKEN)
    after, effects = step(before, event, _NOW, 0.5)
    if after == before and not effects:
        # A fetch ends only if one is in flight.
        return "" if type(event) in _IMPOSSIBLE else "-"
    name = _NAMES[type(after.phase)]
    note = ", then once more" if isinstance(after.phase, Fetching) and after.phase.is_outdated else ""
    done = ", ".join(_EFFECTS[type(effect)] for effect in effects)
    return f"→ `{name}`{note}" + (f": {done}" if done else "")


def arrows() -> set[tuple[str, str]]:
    """Return from which phase to which there is a way; the end, to which there is one from each, is left out."""
    found = {("[*]", "FETCHING")}
    for phase in _STARTS.values():
        for event in _EVENTS.values():
            after, effects = step(TokenState(phase=phase, token=TOKEN), event, _NOW, 0.5)
            if (after.phase != phase or effects) and not isinstance(after.phase, Stopped):
                found.add((_NAMES[type(phase)], _NAMES[type(after.phase)]))
    return found


def most_requests_table() -> str:
    """Return how many token requests a process sends at most in a day, by the lifetime of its tokens, in Markdown."""
    rows = [
        [said, f"{most_requests(_DAY, shortest_lifetime=lifetime):,}".replace(",", " ")]
        for said, lifetime in _LIFETIMES.items()
    ]
    return markdown(["the shortest-lived token that was granted", "token requests in 24 hours, at most"], rows)


_DAY: Final = 86400.0
_LIFETIMES: Final = {
    "none at all": None,
    "lives 27 seconds or more": 27.0,
    "10 seconds": 10.0,
    "5 seconds": 5.0,
    "2 seconds or less": 2.0,
}

TABLES: Final = {
    "what a request gets": requests_table,
    "transitions": transitions_table,
    "most token requests": most_requests_table,
}


if __name__ == "__main__":
    write(PAGE, TABLES)
