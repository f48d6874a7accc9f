"""The metrics, as a scraper reads them: what is counted, under which labels, and what is read at the scrape."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from switch_proxy.core.exchange_record import ExchangeRecord
from switch_proxy.core.quota import QuotaBucket
from switch_proxy.core.route_snapshot import ListenerSnapshot, RouteSnapshot
from switch_proxy.telemetry import Telemetry, TelemetrySnapshot
from tests.credential_statuses import NEVER_HELD, READY, SHARED

if TYPE_CHECKING:
    from collections.abc import Iterable

ROUTE = RouteSnapshot(
    name="switch-api",
    requests_in_flight=2,
    upstream_idle=1,
    upstream_busy=2,
    waiting_for_upstream=3,
    upstream_connects=4,
    upstream_reuses=40,
    retries=1,
    token_refusals=3,
    replays=2,
    scope_refusals=6,
    reflected_tokens=7,
)
LISTENER = ListenerSnapshot(name="local", client_connections=5, routes=(ROUTE,))
STATE = TelemetrySnapshot(health=READY, listeners=[LISTENER], log_lines_dropped=0)

EXCHANGE = ExchangeRecord(
    route="switch-api",
    method=b"GET",
    target=b"/api/readings",
    request_id=b"1",
    status=200,
    request_body_bytes=3,
    response_body_bytes=5,
    duration=0.02,
    upstream_duration=0.003,
    failure=None,
    started_at_wall=1790000000.0,
)


def telemetry(state: TelemetrySnapshot = STATE, routes: Iterable[str] = ("switch-api",)) -> Telemetry:
    return Telemetry(state=lambda: state, routes=routes, build={"version": "1.2.3", "loop": "uvloop"})


async def scrape(counted: Telemetry) -> dict[tuple[str, ...], float]:
    """Return all samples, by name and the values of their labels in the order of the labels' names."""
    content, content_type = await counted.render("")
    assert content_type.startswith("text/plain; version=0.0.4")
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(content.decode())
        for sample in family.samples
    }


async def test_requests_are_counted_by_route_method_and_status() -> None:
    counted = telemetry()
    for status in (200, 200, 404):
        counted.count([dataclasses.replace(EXCHANGE, status=status)])
    counted.count([dataclasses.replace(EXCHANGE, method=b"POST")])
    samples = await scrape(counted)
    assert samples["switch_proxy_requests_total", "200", "GET", "switch-api"] == 2
    assert samples["switch_proxy_requests_total", "404", "GET", "switch-api"] == 1
    assert samples["switch_proxy_requests_total", "200", "POST", "switch-api"] == 1


async def test_methods_that_a_client_makes_up_share_one_label() -> None:
    """However many methods a client invents, the number of time series stays as it is."""
    counted = telemetry()
    for number in range(1000):
        counted.count([dataclasses.replace(EXCHANGE, method=b"M%d" % number)])
    samples = await scrape(counted)
    assert samples["switch_proxy_requests_total", "200", "other", "switch-api"] == 1000
    assert len([name for name, *_ in samples if name == "switch_proxy_requests_total"]) == 1


async def test_query_has_a_label_of_its_own() -> None:
    counted = telemetry()
    counted.count([dataclasses.replace(EXCHANGE, method=b"QUERY")])
    assert (await scrape(counted))["switch_proxy_requests_total", "200", "QUERY", "switch-api"] == 1


async def test_bytes_of_bodies_are_summed_both_ways() -> None:
    counted = telemetry()
    for status in (200, 404):
        counted.count([dataclasses.replace(EXCHANGE, status=status)])
    samples = await scrape(counted)
    assert samples["switch_proxy_request_body_bytes_total", "switch-api"] == 6
    assert samples["switch_proxy_response_body_bytes_total", "switch-api"] == 10


@pytest.mark.parametrize(
    ("duration", "bucket", "bucket_below"),
    [
        pytest.param(0.0, "0.001", None, id="none at all"),
        pytest.param(0.01, "0.01", "0.005", id="on a bound"),
        pytest.param(0.0100001, "0.025", "0.01", id="just above a bound"),
        pytest.param(60.0, "60.0", "30.0", id="on the last bound"),
        pytest.param(61.0, "+Inf", "60.0", id="above all bounds"),
    ],
)
async def test_a_duration_is_counted_from_its_own_bucket_on(
    duration: float, bucket: str, bucket_below: str | None
) -> None:
    counted = telemetry()
    counted.count([dataclasses.replace(EXCHANGE, duration=duration, upstream_duration=duration)])
    samples = await scrape(counted)
    for name in ("request_duration_seconds", "upstream_duration_seconds"):
        assert samples[f"switch_proxy_{name}_bucket", bucket, "switch-api"] == 1
        assert bucket_below is None or samples[f"switch_proxy_{name}_bucket", bucket_below, "switch-api"] == 0
        assert samples[f"switch_proxy_{name}_count", "switch-api"] == 1
        assert samples[f"switch_proxy_{name}_sum", "switch-api"] == pytest.approx(duration)


@settings(max_examples=30)  # each with a scrape
@given(st.lists(st.floats(min_value=0, max_value=1000), max_size=50))
def test_buckets_count_what_is_at_most_their_bound(durations: list[float]) -> None:
    counted = telemetry()
    for duration in durations:
        counted.count([dataclasses.replace(EXCHANGE, duration=duration)])
    samples = asyncio.run(scrape(counted))
    for (name, *labels), value in samples.items():
        if name == "switch_proxy_request_duration_seconds_bucket":
            assert value == len([duration for duration in durations if duration <= float(labels[0])])


async def test_an_exchange_without_a_response_has_no_upstream_duration() -> None:
    counted = telemetry()
    counted.count([dataclasses.replace(EXCHANGE, upstream_duration=None)])
    samples = await scrape(counted)
    assert samples["switch_proxy_request_duration_seconds_count", "switch-api"] == 1
    assert samples["switch_proxy_upstream_duration_seconds_count", "switch-api"] == 0


async def test_failures_are_counted_by_the_name_of_their_problem() -> None:
    counted = telemetry()
    for failure in ("upstream-timeout", "upstream-timeout", "token-unavailable"):
        counted.count([dataclasses.replace(EXCHANGE, status=504, failure=failure)])
    samples = await scrape(counted)
    assert samples["switch_proxy_request_failures_total", "upstream-timeout", "switch-api"] == 2
    assert samples["switch_proxy_request_failures_total", "token-unavailable", "switch-api"] == 1


async def test_a_route_is_there_at_zero_before_its_first_request() -> None:
    samples = await scrape(telemetry())
    assert samples["switch_proxy_request_duration_seconds_count", "switch-api"] == 0
    assert samples["switch_proxy_request_body_bytes_total", "switch-api"] == 0


async def test_client_connections_are_read_from_the_listeners_snapshot() -> None:
    assert (await scrape(telemetry()))["switch_proxy_client_connections", "local"] == 5.0


async def test_upstream_connections_are_read_from_the_routes_snapshot() -> None:
    samples = await scrape(telemetry())
    assert {name: value for (name, *labels), value in samples.items() if labels == ["switch-api"]}.items() >= {
        "switch_proxy_requests_in_flight": 2.0,
        "switch_proxy_upstream_connections_idle": 1.0,
        "switch_proxy_upstream_connections_busy": 2.0,
        "switch_proxy_requests_waiting": 3.0,
        "switch_proxy_upstream_connects_total": 4.0,
        "switch_proxy_upstream_reuses_total": 40.0,
        "switch_proxy_upstream_retries_total": 1.0,
        "switch_proxy_upstream_token_refusals_total": 3.0,
        "switch_proxy_upstream_replays_total": 2.0,
        "switch_proxy_upstream_scope_refusals_total": 6.0,
        "switch_proxy_upstream_reflected_tokens_total": 7.0,
    }.items()


async def test_tokens_are_read_from_the_credentials_state() -> None:
    samples = await scrape(telemetry())
    assert {name: value for (name, *labels), value in samples.items() if labels == ["switch"]} == {
        "switch_proxy_token_usable": 1.0,
        "switch_proxy_token_expiry_timestamp_seconds": 1790003600.0,
        "switch_proxy_token_next_fetch_timestamp_seconds": 1790002880.0,
        "switch_proxy_secret_readable": 1.0,
        "switch_proxy_client_refused": 0.0,
        "switch_proxy_token_quota_exhausted": 0.0,
        "switch_proxy_previous_secret_used": 0.0,
        "switch_proxy_token_generation": 7.0,
        "switch_proxy_tokens_issued_total": 8.0,
        "switch_proxy_token_fetch_consecutive_failures": 0.0,
    }
    assert samples["switch_proxy_token_fetches_total", "switch", "ok"] == 7
    assert samples["switch_proxy_token_fetches_total", "switch", "refused"] == 2


async def test_each_bucket_of_the_ration_has_its_samples() -> None:
    samples = await scrape(telemetry())
    assert samples["switch_proxy_token_quota_remaining", "per_hour", "switch"] == 3
    assert samples["switch_proxy_token_quota_limit", "per_hour", "switch"] == 10
    assert samples["switch_proxy_token_quota_reset_timestamp_seconds", "per_hour", "switch"] == 1790002800


async def test_a_bucket_of_unknown_size_has_no_limit() -> None:
    bucket = QuotaBucket(name="window", quota=None, remaining=3, resets_at=0.0)
    health = dataclasses.replace(READY, credentials=(dataclasses.replace(NEVER_HELD, quota=(bucket,)),))
    samples = await scrape(telemetry(dataclasses.replace(STATE, health=health)))
    assert samples["switch_proxy_token_quota_remaining", "window", "switch"] == 3
    assert ("switch_proxy_token_quota_limit", "window", "switch") not in samples


async def test_a_credential_without_a_token_has_no_expiry_rather_than_one_in_1970() -> None:
    health = dataclasses.replace(READY, credentials=(NEVER_HELD,))
    samples = await scrape(telemetry(dataclasses.replace(STATE, health=health)))
    assert samples["switch_proxy_token_usable", "switch"] == 0
    assert ("switch_proxy_token_expiry_timestamp_seconds", "switch") not in samples


async def test_the_process_and_its_build_are_described() -> None:
    samples = await scrape(telemetry())
    assert samples["process_resident_memory_bytes",] > 0
    assert samples["process_open_fds",] > 0
    assert samples["switch_proxy_build_info", "uvloop", "1.2.3"] == 1


@pytest.mark.parametrize(
    ("draining_since", "value"), [pytest.param(None, 1, id="ready"), pytest.param(1790000000.0, 0, id="draining")]
)
async def test_readiness_is_a_metric_too(draining_since: float | None, value: int) -> None:
    health = dataclasses.replace(READY, draining_since=draining_since)
    assert (await scrape(telemetry(dataclasses.replace(STATE, health=health))))["switch_proxy_ready",] == value


async def test_a_refused_client_and_a_previous_secret_in_use_are_seen() -> None:
    credential = dataclasses.replace(NEVER_HELD, refused_since=1.0, uses_previous_secret=True)
    samples = await scrape(
        telemetry(dataclasses.replace(STATE, health=dataclasses.replace(READY, credentials=(credential,))))
    )
    assert samples["switch_proxy_client_refused", "switch"] == 1
    assert samples["switch_proxy_previous_secret_used", "switch"] == 1


async def test_a_used_up_quota_is_seen() -> None:
    credential = dataclasses.replace(NEVER_HELD, is_exhausted=True)
    state = dataclasses.replace(STATE, health=dataclasses.replace(READY, credentials=(credential,)))
    assert (await scrape(telemetry(state)))["switch_proxy_token_quota_exhausted", "switch"] == 1


async def test_the_store_of_shared_tokens_is_seen() -> None:
    state = dataclasses.replace(STATE, health=dataclasses.replace(READY, credentials=(SHARED,)))
    samples = await scrape(telemetry(state))
    assert samples["switch_proxy_token_found", "switch"] == 1
    assert samples["switch_proxy_tokens_found_total", "switch"] == 2
    assert samples["switch_proxy_token_store_usable", "switch"] == 0
    assert samples["switch_proxy_token_store_errors_total", "switch"] == 3
    assert samples["switch_proxy_token_store_entries_ignored_total", "switch", "malformed"] == 4


async def test_without_a_store_there_are_no_samples_of_it() -> None:
    samples = await scrape(telemetry())
    assert not [key for key in samples if "store" in key[0] or "found" in key[0]]


async def test_a_secret_that_cannot_be_read_is_seen() -> None:
    credential = dataclasses.replace(NEVER_HELD, secret_error="/secret: no such file")
    state = dataclasses.replace(STATE, health=dataclasses.replace(READY, credentials=(credential,)))
    assert (await scrape(telemetry(state)))["switch_proxy_secret_readable", "switch"] == 0


async def test_log_lines_that_were_dropped_are_counted() -> None:
    samples = await scrape(telemetry(dataclasses.replace(STATE, log_lines_dropped=9)))
    assert samples["switch_proxy_log_lines_dropped_total",] == 9


async def test_a_scraper_that_asks_for_openmetrics_gets_it_and_can_read_it() -> None:
    counted = telemetry()
    counted.count([EXCHANGE])
    content, content_type = await counted.render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    names = {family.name for family in parse_openmetrics(content.decode())}  # type: ignore[no-untyped-call]
    assert "switch_proxy_requests" in names


async def test_two_proxies_in_one_process_count_apart() -> None:
    one, other = telemetry(), telemetry()
    await one.render("")
    other.count([EXCHANGE])
    assert ("switch_proxy_requests_total", "200", "GET", "switch-api") not in await scrape(one)
    assert (await scrape(other))["switch_proxy_requests_total", "200", "GET", "switch-api"] == 1


def test_prometheus_client_is_not_imported_before_the_first_scrape() -> None:
    program = "import sys, switch_proxy.telemetry; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
