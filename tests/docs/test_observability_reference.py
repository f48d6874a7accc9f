"""docs/observability.md names every event, field and metric, and no unknown ones."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prometheus_client.parser import text_string_to_metric_families

from switch_proxy.core.access_line import access_event
from switch_proxy.core.errors import SecretUnavailableError, TokenFetchError
from switch_proxy.core.exchange_record import ExchangeRecord
from switch_proxy.core.lifecycle import FETCHED
from switch_proxy.core.route_snapshot import ListenerSnapshot, RouteSnapshot
from switch_proxy.telemetry import Telemetry, TelemetrySnapshot
from tests.credential_statuses import READY, SHARED

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
REFERENCE: Final = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")

ROUTE = RouteSnapshot(
    name="switch-api",
    requests_in_flight=0,
    upstream_idle=0,
    upstream_busy=0,
    waiting_for_upstream=0,
    upstream_connects=0,
    upstream_reuses=0,
    retries=0,
    token_refusals=0,
    replays=0,
    scope_refusals=0,
    reflected_tokens=0,
)
LISTENER = ListenerSnapshot(name="local", client_connections=0, routes=(ROUTE,))
FAILED = ExchangeRecord(
    route="switch-api",
    method=b"GET",
    target=b"/",
    request_id=b"1",
    status=502,
    request_body_bytes=0,
    response_body_bytes=0,
    duration=0.0,
    upstream_duration=None,
    failure="upstream-refused",
    started_at_wall=0.0,
    detail="127.0.0.1:1 refused the connection",
)


def section(heading: str) -> str:
    """Return the text below a heading, up to the next one of the same or a higher level."""
    depth = heading.partition(" ")[0]
    _, _, rest = REFERENCE.partition(f"\n{heading}\n")
    assert rest, f"there is no {heading!r}"
    return re.split(rf"^#{{1,{len(depth)}}} ", rest, flags=re.MULTILINE)[0]


def first_column(text: str) -> set[str]:
    """Return the names in backticks in the first column of a text's tables."""
    cells = re.findall(r"^\| (`[^|]+) \|", text, flags=re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def names_of_events() -> Iterator[str]:
    """Return every string in the package that has the form of an event and is not a key of the configuration."""
    for path in (ROOT / "proxy").rglob("*.py"):
        if "demo" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Constant(value=str(text)) if re.fullmatch(r"(?!admin\.)[a-z]+\.[a-z]+(_[a-z]+)*", text):
                    yield text


def test_every_event_is_documented_and_no_other() -> None:
    documented = {name for name in first_column(section("## Log")) if "." in name}
    assert documented == set(names_of_events())


def test_every_field_of_a_request_is_documented_and_no_other() -> None:
    documented = {name for name in first_column(section("### Requests")) if "." not in name}
    assert documented == access_event(FAILED).keys() - {"timestamp", "event"}


async def test_every_metric_is_documented_with_its_type_and_labels_and_no_other() -> None:
    health = replace(READY, credentials=(*READY.credentials, replace(SHARED, name="shared")))
    state = TelemetrySnapshot(health=health, listeners=[LISTENER], log_lines_dropped=0)
    build = {"version": "1", "python": "3", "loop": "uvloop"}
    telemetry = Telemetry(state=lambda: state, routes=["switch-api"], build=build)
    telemetry.count([FAILED])
    content, _ = await telemetry.render("")
    found = {
        (
            family.name + ("_total" if family.type == "counter" else ""),
            family.type,
            frozenset(label for sample in family.samples for label in sample.labels if label != "le"),
        )
        for family in text_string_to_metric_families(content.decode())
        if not family.name.startswith("process_")
    }
    rows = re.findall(r"^\| `(switch_proxy_\w+)` \| (\w+) \| ([^|]*)\|", section("## Metrics"), flags=re.MULTILINE)
    documented = {(name, kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert documented == found


def test_every_outcome_of_a_fetch_is_documented() -> None:
    (row,) = [line for line in REFERENCE.splitlines() if "switch_proxy_token_fetches_total" in line]
    kinds: tuple[type[TokenFetchError | SecretUnavailableError], ...]
    kinds = (SecretUnavailableError, TokenFetchError, *TokenFetchError.__subclasses__())
    failures = {kind.outcome for kind in kinds}
    assert {FETCHED, *failures} <= set(re.findall(r"`(\w+)`", row))
