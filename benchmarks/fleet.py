"""
How many token requests a fleet sends, and how many of its apps' requests get 503: simulated, with and without a token store.

The decisions are the proxy's own (core/lifecycle, core/backoff, core/pace, core/quota, core/token_sharing), under a virtual clock.
What is modelled here are the authorization server, the API, the time that calls take, and the store's bytes and lock.

`make fleet` writes the tables into docs/fleet.md and the plot into docs/fleet.svg; `python -m benchmarks.fleet --quick` prints those
of fleets up to a thousand.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

from switch_proxy.core import backoff, tokens
from switch_proxy.core.errors import TokenEndpointUnavailableError, TokenQuotaExhaustedError, TokenRequestRefusedError
from switch_proxy.core.lifecycle import (
    Event,
    Failed,
    Fetched,
    FetchFailure,
    Fetching,
    Forcing,
    Idle,
    Rejected,
    StartFetch,
    Ticked,
    TokenState,
    initial_state,
    next_forced_at,
    step,
    tick_at,
)
from switch_proxy.core.quota import QuotaBucket, has_spare_at
from switch_proxy.core.secret import Secret
from switch_proxy.core.token_sharing import (
    LONGEST_LOCK_WAIT,
    Question,
    RecordedFailure,
    SharedToken,
    failure_to_share,
    judge,
    lease_of,
    token_to_share,
)
from switch_proxy.core.tokens import TokenGrant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import ModuleType

HOUR: Final = 3600.0
DAY: Final = 86400.0
SIZES: Final = (10, 100, 1000, 10_000, 100_000)

_RESPONSE: Final = (0.05, 0.25)
"""Seconds that a token request takes, between these."""

_STORE_CALL: Final = 0.002
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 0.25
"""Seconds: a call of the store, and the pauses of who waits for its lock (tokens/sharing.py)."""

_WAIT_FOR_TOKEN: Final = 5.0
"""Seconds that a request waits for a fetch in flight: the default of `wait_for_token`."""

_SECRET: Final = "fingerprint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What happens to a fleet. Times in seconds from the start of the simulation, which is at midnight UTC."""

    name: str
    lasts: float
    lifetime: float = DAY
    starts_over: float = 0.0
    """The processes start one after the other over this time; 0 is all at once."""
    restarts_at: float | None = None
    """When all are restarted at once. Counted from a minute before it on, so that the first start is left out."""
    outage: tuple[float, float] | None = None
    """When the authorization server responds with 503."""
    is_rationed: bool = False
    """10 tokens an hour and 50 a day, as in production."""
    has_wrong_secret: bool = False
    api_refuses_all: bool = False
    store_is_away: tuple[float, float] | None = None
    counts_from: float | None = None
    """From when on requests are counted, if it is another moment than `counted_from` says."""
    largest_with_store: int = 100_000
    """The largest fleet with a store that is simulated: whoever waits for the lock is an event four times a second."""

    @property
    def counted_from(self) -> float:
        """Return the moment from which on requests are counted."""
        if self.counts_from is not None:
            return self.counts_from
        begin = self.restarts_at if self.outage is None else self.outage[0]
        return 0.0 if begin is None else begin - 60.0


SCENARIOS: Final = (
    Scenario(name="started over ten minutes", lasts=2 * HOUR, lifetime=HOUR, starts_over=600.0),
    Scenario(name="all restarted at once", lasts=HOUR, lifetime=HOUR, starts_over=600.0, restarts_at=1200.0),
    Scenario(
        name="ten minutes' outage, tokens of an hour",
        lasts=1.5 * HOUR,
        lifetime=HOUR,
        starts_over=600.0,
        outage=(2700.0, 3300.0),
        largest_with_store=1000,
    ),
    Scenario(name="rationed, started over ten minutes", lasts=6 * HOUR, starts_over=600.0, is_rationed=True),
    Scenario(name="a wrong secret", lasts=HOUR, starts_over=600.0, has_wrong_secret=True, largest_with_store=10_000),
    Scenario(name="an API that refuses every token", lasts=2 * HOUR, starts_over=600.0, api_refuses_all=True),
    Scenario(
        name="store away for five minutes, all restarted in it",
        lasts=HOUR,
        lifetime=HOUR,
        starts_over=600.0,
        restarts_at=1260.0,
        store_is_away=(1200.0, 1500.0),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a fleet cost in a scenario."""

    scenario: str
    size: int
    has_store: bool
    busiest_second: int
    """Token requests in the second that had most of them."""
    busiest_hour: int
    """Token requests in the hour that had most of them."""
    tokens: int
    """Tokens issued in the whole time that is counted."""
    store_calls: int
    """Looks into the store in the second that had most of them."""
    without: float
    """The part of the apps' requests that got 503, if each process gets as many at all times."""


@dataclass(slots=True)
class _Process:
    state: TokenState
    pause: float = _FIRST_PAUSE
    gives_up_at: float = inf
    version: int = 0
    """Counts what has happened, so that a timer that was set before is known to be stale."""
    has_turn: bool = False
    without_since: float | None = 0.0
    without: float = 0.0


@dataclass(slots=True)
class _Store:
    token: SharedToken | None = None
    failure: RecordedFailure | None = None
    locked_until: float = -inf
    holder: int = -1


class Simulation:
    """One fleet in one scenario."""

    def __init__(self, scenario: Scenario, size: int, *, has_store: bool, seed: int = 1) -> None:
        self._scenario = scenario
        self._size = size
        self._random = random.Random(seed)
        self._store = _Store() if has_store else None
        self._events: list[tuple[float, int, int, int, Callable[[int, float], None]]] = []
        self._order = 0
        self._issued: Counter[tuple[str, int]] = Counter()
        self._seconds: Counter[int] = Counter()
        self._calls: Counter[int] = Counter()
        self._tokens = 0
        self._processes: list[_Process] = []

    def run(self) -> Outcome:
        """Let the scenario pass, and return what it cost."""
        scenario = self._scenario
        for number in range(self._size):
            at = scenario.starts_over * number / self._size
            self._processes.append(_Process(state=self._new_state(at), without_since=at))
            self._plan(at, number, self._tick)
        restarts_at = scenario.restarts_at
        while self._events[0][0] < scenario.lasts or restarts_at is not None:
            if restarts_at is not None and self._events[0][0] >= restarts_at:
                self._restart(restarts_at)
                restarts_at = None
                continue
            at, _, number, version, action = heapq.heappop(self._events)
            if self._processes[number].version == version:
                action(number, at)
        return self._outcome()

    def _new_state(self, now: float) -> TokenState:
        return initial_state(now, is_shared=self._store is not None)

    def _plan(self, at: float, number: int, action: Callable[[int, float], None]) -> None:
        self._order += 1
        heapq.heappush(self._events, (at, self._order, number, self._processes[number].version, action))

    def _restart(self, now: float) -> None:
        for number, process in enumerate(self._processes):
            self._close_gap(process, now)
            process.version += 1
            process.state, process.has_turn, process.without_since = self._new_state(now), False, now
            self._plan(now, number, self._tick)

    # --- a process -------------------------------------------------------------------------------------------------

    def _tick(self, number: int, now: float) -> None:
        self._feed(number, Ticked(), now)

    def _feed(self, number: int, event: Event, now: float) -> None:
        process = self._processes[number]
        process.version += 1
        process.state, effects = step(process.state, event, now, self._random.random())
        self._note_gap(process, now)
        if StartFetch() in effects:
            process.pause, process.gives_up_at = _FIRST_PAUSE, now + LONGEST_LOCK_WAIT
            self._fetch(number, now)
            return
        at = tick_at(process.state)
        assert at is not None
        self._plan(at, number, self._tick)
        if self._scenario.api_refuses_all and isinstance(process.state.phase, Idle):
            self._plan_refusal(number, now)

    def _plan_refusal(self, number: int, now: float) -> None:
        """Let a request meet a 401 as soon as that has an effect: requests are frequent."""
        state = self._processes[number].state
        if state.token is None:
            return
        forcing = Forcing(at=state.forced_at, in_a_row=state.forced_in_a_row)
        at = max(next_forced_at(forcing, shortest=state.min_forced_refresh_interval), has_spare_at(state.quota, now))
        self._plan(max(at, now + 1.0), number, self._refuse)

    def _refuse(self, number: int, now: float) -> None:
        token = self._processes[number].state.token
        assert token is not None
        self._feed(number, Rejected(generation=token.generation), now)

    def _note_gap(self, process: _Process, now: float) -> None:
        """Note from when to when there is no usable token; a request that a fetch serves in time does not count."""
        self._close_gap(process, now)
        token = process.state.token
        process.without_since = now if token is None else max(now, token.usable_until)

    def _close_gap(self, process: _Process, now: float) -> None:
        begin = process.without_since
        if begin is not None and now > begin:
            waited = now - begin
            is_served = isinstance(process.state.phase, Idle) and waited <= _WAIT_FOR_TOKEN
            counted = max(0.0, now - max(begin, self._scenario.counted_from))
            process.without += 0.0 if is_served else counted

    # --- a fetch ---------------------------------------------------------------------------------------------------

    def _fetch(self, number: int, now: float) -> None:
        store = self._store
        away = self._scenario.store_is_away
        if store is None:
            self._request(number, now)
        elif away is not None and away[0] <= now < away[1]:
            # It does not respond within a second, and the token is requested without it.
            self._plan(now + 1.0, number, self._request)
        else:
            self._plan(now + _STORE_CALL, number, self._consult)

    def _consult(self, number: int, now: float) -> None:
        """Look into the store, take the lock, look again: as tokens/sharing.py does."""
        process, store = self._processes[number], self._store
        assert store is not None
        self._calls[int(now)] += 1
        phase = process.state.phase
        assert isinstance(phase, Fetching)
        question = Question(reason=phase.reason, since=phase.since, held=process.state.token, fingerprint=_SECRET)
        judgement = judge(
            store.token, store.failure, question, now=now, shortest=process.state.min_forced_refresh_interval
        )
        if judgement is not None:
            self._feed(number, judgement, now)
        elif now >= process.gives_up_at:
            self._request(number, now)
        elif now < store.locked_until:
            self._plan(now + process.pause, number, self._consult)
            process.pause = min(_LONGEST_PAUSE, process.pause * 1.5)
        else:
            store.locked_until, store.holder = now + lease_of(question, now=now), number
            process.has_turn = True
            self._request(number, now)

    def _request(self, number: int, now: float) -> None:
        if now >= self._scenario.counted_from:
            self._seconds[int(now)] += 1
        self._plan(now + self._random.uniform(*_RESPONSE), number, self._respond)

    def _respond(self, number: int, now: float) -> None:
        response = self._response(now)
        event: Event = Fetched(grant=response) if isinstance(response, TokenGrant) else Failed(error=response)
        process, store = self._processes[number], self._store
        self._feed(number, event, now)
        if store is None or not process.has_turn:
            return
        process.has_turn = False
        if isinstance(event, Fetched):
            store.token = token_to_share(process.state, store.token, fingerprint=_SECRET) or store.token
        else:
            store.failure = failure_to_share(process.state, now=now) or store.failure
        if store.holder == number:
            store.locked_until = -inf

    # --- the authorization server ----------------------------------------------------------------------------------

    def _response(self, now: float) -> TokenGrant | FetchFailure:
        scenario = self._scenario
        if scenario.has_wrong_secret:
            return TokenRequestRefusedError("a wrong secret", is_about_client=True)
        if scenario.outage is not None and scenario.outage[0] <= now < scenario.outage[1]:
            return TokenEndpointUnavailableError("503")
        quota: tuple[QuotaBucket, ...] = ()
        if scenario.is_rationed:
            quota = self._buckets(now)
            empty = [bucket for bucket in quota if bucket.remaining == 0]
            if empty:
                until = max(bucket.resets_at for bucket in empty)
                failure = TokenQuotaExhaustedError("used up", exhausted_until=until)
                failure.quota = quota
                return failure
            for name, window in (("per_hour", HOUR), ("per_day", DAY)):
                self._issued[name, int(now // window)] += 1
            quota = self._buckets(now)
        if now >= scenario.counted_from:
            self._tokens += 1
        return TokenGrant(value=Secret(f"t{self._order}"), lifetime=scenario.lifetime, scope=None, quota=quota)

    def _buckets(self, now: float) -> tuple[QuotaBucket, ...]:
        return tuple(
            QuotaBucket(
                name=name,
                quota=limit,
                remaining=limit - self._issued[name, int(now // window)],
                resets_at=(now // window + 1) * window,
            )
            for name, window, limit in (("per_hour", HOUR, 10), ("per_day", DAY, 50))
        )

    def _outcome(self) -> Outcome:
        scenario = self._scenario
        for process in self._processes:
            self._close_gap(process, scenario.lasts)
        hours: Counter[int] = Counter()
        for second, count in self._seconds.items():
            hours[int((second - scenario.counted_from) // HOUR)] += count
        starts = (scenario.starts_over * number / self._size for number in range(self._size))
        counted = sum(scenario.lasts - max(start, scenario.counted_from) for start in starts)
        return Outcome(
            scenario=scenario.name,
            size=self._size,
            has_store=self._store is not None,
            busiest_second=max(self._seconds.values(), default=0),
            busiest_hour=max(hours.values(), default=0),
            tokens=self._tokens,
            store_calls=max(self._calls.values(), default=0),
            without=sum(process.without for process in self._processes) / counted,
        )


def simulate(scenario: Scenario, size: int, *, has_store: bool) -> Outcome:
    """Return what a fleet of this size costs in a scenario."""
    return Simulation(scenario, size, has_store=has_store).run()


# --- the report ----------------------------------------------------------------------------------------------------

_PAGE: Final = Path(__file__).parents[1] / "docs" / "fleet.md"
_PLOT: Final = _PAGE.with_suffix(".svg")
_BEGIN: Final = "<!-- generated: simulated fleets -->\n"
_BEGIN_COMPARED: Final = "<!-- generated: compared defaults -->\n"
_END: Final = "<!-- end -->"


def simulate_all(sizes: Sequence[int]) -> list[Outcome]:
    """Return the outcomes of all scenarios, sizes, with and without a store; the longest begin first."""
    jobs = [
        (scenario, size, has_store)
        for size in sorted(sizes, reverse=True)
        for scenario in SCENARIOS
        for has_store in (True, False)
        if not has_store or size <= scenario.largest_with_store
    ]
    with ProcessPoolExecutor() as pool:
        return list(pool.map(_run, jobs))


def _run(job: tuple[Scenario, int, bool]) -> Outcome:
    scenario, size, has_store = job
    return simulate(scenario, size, has_store=has_store)


def render_table(outcomes: Sequence[Outcome]) -> str:
    """Return the outcomes in Markdown: each cell is without a store, then with one."""
    found = {(each.scenario, each.size, each.has_store): each for each in outcomes}
    lines = [
        "| what happens | processes | token requests, busiest second | busiest hour | tokens issued | requests with 503 |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for scenario in SCENARIOS:
        for size in sorted({each.size for each in outcomes if each.size in _SHOWN}):
            pair = [found.get((scenario.name, size, has_store)) for has_store in (False, True)]
            cells = [
                _pair([None if each is None else _count(each.busiest_second) for each in pair]),
                _pair([None if each is None else _count(each.busiest_hour) for each in pair]),
                _pair([None if each is None else _count(each.tokens) for each in pair]),
                _pair([None if each is None else _percent(each.without) for each in pair]),
            ]
            lines.append(f"| {scenario.name} | {_count(size)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _pair(cells: Sequence[str | None]) -> str:
    return " → ".join("·" if cell is None else cell for cell in cells)


def _count(number: int) -> str:
    return f"{number:,}".replace(",", " ")


def _percent(part: float) -> str:
    return "0" if part == 0 else f"{part:.1%}" if part >= 0.001 else "< 0.1%"


_COMPARED: Final = 1000
"""Processes of the fleets with which defaults are compared."""


def compare_defaults() -> str:
    """Return, in Markdown, what other values of two defaults would cost a fleet that is restarted at once."""
    wave = Scenario(name="", lasts=0.95 * HOUR, lifetime=HOUR, counts_from=60.0)
    lines = [
        "| default | value | token requests in the busiest second |",
        "| --- | --- | --- |",
    ]
    for earliest, latest in ((0.8, 0.8), (0.75, 0.85)):
        with changed(tokens, REFRESH_EARLIEST=earliest, REFRESH_LATEST=latest):
            busiest = simulate(wave, _COMPARED, has_store=False).busiest_second
        lines.append(f"| replaced after this part of its life | {earliest:.0%} to {latest:.0%} | {_count(busiest)} |")
    lines += [
        "",
        "| longest wait in an outage | token requests of each process in ten minutes' outage | busiest second after it | seconds until a process has its token |",
        "| --- | --- | --- | --- |",
    ]
    end = 1800.0
    outage = Scenario(
        name="", lasts=2600.0, lifetime=HOUR, restarts_at=1200.0, outage=(1190.0, end), counts_from=1190.0
    )
    for ceiling in (30.0, 60.0, 300.0, 900.0):
        with changed(backoff, TRANSIENT_CEILING=ceiling):
            whole = simulate(outage, _COMPARED, has_store=False)
            after = simulate(replace(outage, counts_from=end), _COMPARED, has_store=False)
        sent = whole.busiest_hour / _COMPARED - 1
        recovered = after.without * (outage.lasts - end)
        lines.append(f"| {ceiling:g} s | {sent:.0f} | {_count(after.busiest_second)} | {recovered:.0f} |")
    return "\n".join(lines)


@contextmanager
def changed(module: ModuleType, **values: float) -> Iterator[None]:
    """Let constants of a module have other values."""
    before = {name: getattr(module, name) for name in values}
    try:
        for name, value in values.items():
            setattr(module, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


_SHOWN: Final = (10, 1000, 100_000)
"""The sizes that the table has; the plot has all."""

_WIDTH: Final = 760
_HEIGHT: Final = 420
_LEFT: Final = 70
_RIGHT: Final = 470
_TOP: Final = 50
_BOTTOM: Final = 370
_STYLE: Final = """
    text { font: 13px system-ui, sans-serif; fill: #1f2328; }
    .title { font-weight: 600; font-size: 15px; }
    .small { font-size: 11px; fill: #59636e; }
    .grid { stroke: #d1d9e0; } .ration { stroke: #cf222e; stroke-dasharray: 2 4; }
    .line { fill: none; stroke-width: 2; } .with { stroke-dasharray: 6 4; }
    .c0 { stroke: #1a7f37; } .c1 { stroke: #bc4c00; } .c2 { stroke: #0969da; } .c3 { stroke: #8250df; }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3; } .small { fill: #9198a1; } .grid { stroke: #3d444d; } .ration { stroke: #f85149; }
      .c0 { stroke: #3fb950; } .c1 { stroke: #db6d28; } .c2 { stroke: #4493f8; } .c3 { stroke: #ab7df8; }
    }
"""
_DRAWN: Final = (0, 1, 4, 5)
"""The scenarios that are drawn."""


def render_svg(outcomes: Sequence[Outcome]) -> str:
    """Return a plot of the token requests in the busiest hour by the number of processes, both axes logarithmic."""
    sizes = sorted({each.size for each in outcomes})
    top = max(each.busiest_hour for each in outcomes)
    decades = range(len(str(top)) + 1)

    def place(size: float, count: float) -> str:
        return f"{_across(size, sizes):.1f},{_up(count, decades[-1]):.1f}"

    title = "Token requests in the busiest hour"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">',
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="12" y="24">{title}, by the number of processes</text>',
    ]
    for decade in decades:
        y = _up(10.0**decade, decades[-1])
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="small" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{10**decade:,}</text>')
    for size in sizes:
        x = _across(size, sizes)
        parts.append(f'<text class="small" x="{x:.1f}" y="{_BOTTOM + 20}" text-anchor="middle">{size:,}</text>')
    y = _up(10.0, decades[-1])
    parts.append(f'<line class="ration" x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
    parts.append(f'<text class="small" x="{_RIGHT + 8}" y="{y + 4:.1f}">the ration of an hour in production</text>')
    for colour, index in enumerate(_DRAWN):
        name = SCENARIOS[index].name
        for has_store in (False, True):
            drawn = [each for each in outcomes if (each.scenario, each.has_store) == (name, has_store)]
            points = " ".join(
                place(each.size, max(1, each.busiest_hour)) for each in sorted(drawn, key=lambda o: o.size)
            )
            kind = "with" if has_store else "without"
            parts.append(f'<polyline class="line c{colour} {kind}" points="{points}"/>')
        y = _TOP + 60 + 22 * colour
        parts.append(f'<line class="line c{colour}" x1="{_RIGHT + 8}" x2="{_RIGHT + 30}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{_RIGHT + 36}" y="{y + 4}">{escape(name)}</text>')
    parts.append(
        f'<text class="small" x="{_RIGHT + 8}" y="{_TOP + 40}">lines: without a store; dashes: with one</text>'
    )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _across(size: float, sizes: Sequence[int]) -> float:
    lowest, highest = math.log10(sizes[0]), math.log10(sizes[-1])
    return _LEFT + (_RIGHT - _LEFT) * (math.log10(size) - lowest) / max(highest - lowest, 1e-9)


def _up(count: float, highest: int) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * math.log10(count) / highest


def main() -> None:
    """Simulate, and write the page or print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only up to 1,000 processes, and only print")
    options = parser.parse_args()
    outcomes = simulate_all([size for size in SIZES if size <= 1000] if options.quick else SIZES)
    table = render_table(outcomes)
    compared = compare_defaults()
    print(table, compared, sep="\n\n")
    for each in sorted(outcomes, key=lambda outcome: -outcome.store_calls)[:5]:
        print(f"{each.store_calls:,} looks into the store in the busiest second: {each.scenario}, {each.size:,}")
    if not options.quick:
        text = _PAGE.read_text(encoding="utf-8")
        for begin, written in ((_BEGIN, table), (_BEGIN_COMPARED, compared)):
            before, _, rest = text.partition(begin)
            after = rest.partition(_END)[2]
            text = f"{before}{begin}{written}\n{_END}{after}"
        _PAGE.write_text(text, encoding="utf-8")
        _PLOT.write_text(render_svg(outcomes), encoding="utf-8")


if __name__ == "__main__":
    main()
