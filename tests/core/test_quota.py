"""The ration of tokens, in each dialect that servers state it in, and in none."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from switch_proxy.core.quota import LONGEST_WINDOW, QuotaBucket, current_quota, has_spare_at, parse_quota, used_up

NOW: Final = 5000.0
WALL: Final = 1_790_000_000.0
"""2026-09-21T14:13:20Z"""

HOUR: Final = QuotaBucket(name="per_hour", quota=10, remaining=7, resets_at=NOW + 2800)
DAY: Final = QuotaBucket(name="per_day", quota=50, remaining=47, resets_at=NOW + 35200)
"""Their ends are those of the UTC hour and day, so that every dialect can state them."""
ORGANIZATION: Final = QuotaBucket(name="organization_per_hour", quota=100, remaining=7, resets_at=NOW + 2800)
NAMELESS: Final = QuotaBucket(name="window", quota=10, remaining=7, resets_at=NOW + 2800)


def _x(reset: str, prefix: str = "X-RateLimit") -> list[tuple[str, str]]:
    return [(f"{prefix}-Limit", "10"), (f"{prefix}-Remaining", "7"), (f"{prefix}-Reset", reset)]


AUTH0: Final = "b=per_hour;q=10;r=7;t=2800,b=per_day;q=50;r=47;t=35200"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([("Auth0-Client-Quota-Limit", AUTH0)], [HOUR, DAY], id="Auth0"),
        pytest.param([("auth0-client-quota-limit", AUTH0)], [HOUR, DAY], id="Auth0, over HTTP/2"),
        pytest.param([("Auth0-Client-Quota-Limit", AUTH0.replace("b=", ""))], [HOUR, DAY], id="Auth0, without b="),
        pytest.param(
            [("Auth0-Client-Quota-Limit", AUTH0.replace(";", " ; ").replace(",", " , "))],
            [HOUR, DAY],
            id="Auth0, blanks",
        ),
        pytest.param(
            [("Auth0-Client-Quota-Limit", part) for part in AUTH0.split(",")], [HOUR, DAY], id="Auth0, two fields"
        ),
        pytest.param(
            [
                ("Auth0-Organization-Quota-Limit", "b=per_hour;q=100;r=7;t=2800"),
                ("Auth0-Client-Quota-Limit", "per_hour;q=10;r=7;t=2800"),
            ],
            [HOUR, ORGANIZATION],
            id="Auth0, client and organization",
        ),
        pytest.param(
            [
                ("RateLimit-Policy", '"hour";q=10;w=3600, "daily";q=50;w=86400'),
                ("RateLimit", '"hour";r=7;t=2800, "daily";r=47;t=35200'),
            ],
            [HOUR, DAY],
            id="draft",
        ),
        pytest.param(
            [("RateLimit-Policy", '"default";q=10;w=3600'), ("RateLimit", '"default";r=7;t=2800')],
            [HOUR],
            id="draft, a name of theirs",
        ),
        pytest.param(
            [("RateLimit-Policy", '"default";q=10;w=3600'), ("RateLimit", '"default";r=7')],
            [HOUR],
            id="draft, without t: to the end of the window",
        ),
        pytest.param([("RateLimit", '"default";q=10;r=7;t=2800')], [NAMELESS], id="draft, without a policy"),
        pytest.param(
            [("RateLimit", "limit=10, remaining=7, reset=2800"), ("RateLimit-Policy", "10;w=3600, 50;w=86400")],
            [HOUR],
            id="draft -07",
        ),
        pytest.param(
            [("RateLimit-Limit", "10, 10;w=3600"), ("RateLimit-Remaining", "7"), ("RateLimit-Reset", "2800")],
            [HOUR],
            id="draft -06",
        ),
        pytest.param(
            [("RateLimit-Limit", "10"), ("RateLimit-Remaining", "7"), ("RateLimit-Reset", "2800")],
            [NAMELESS],
            id="draft -06, without a policy",
        ),
        pytest.param(_x("2800"), [NAMELESS], id="X-, seconds"),
        pytest.param(_x("2800.75"), [NAMELESS], id="X-, seconds with a fraction"),
        pytest.param(_x("1790002800"), [NAMELESS], id="X-, Unix time"),
        pytest.param(_x("1790002800000"), [NAMELESS], id="X-, Unix time in milliseconds"),
        pytest.param(_x("46m40s"), [NAMELESS], id="X-, a duration"),
        pytest.param(_x("2026-09-21T15:00:00Z", "X-Rate-Limit"), [NAMELESS], id="X-, RFC 3339"),
        pytest.param(_x("2026-09-21T15:00:00"), [NAMELESS], id="X-, a date without a zone"),
        pytest.param(_x("Mon, 21 Sep 2026 15:00:00 GMT"), [NAMELESS], id="X-, a date of HTTP"),
        pytest.param(
            [
                ("X-RateLimit-Limit-Hour", "10"),
                ("X-RateLimit-Remaining-Hour", "7"),
                ("X-RateLimit-Limit-Day", "50"),
                ("X-RateLimit-Remaining-Day", "47"),
            ],
            [HOUR, DAY],
            id="X-, of a gateway, by the clock",
        ),
        pytest.param(
            [("X-RateLimit-Limit", "10, 10;w=3600"), ("X-RateLimit-Remaining", "7"), ("X-RateLimit-Reset", "2800")],
            [HOUR],
            id="X-, with a window",
        ),
    ],
)
def test_each_dialect_states_the_same_buckets(fields: list[tuple[str, str]], expected: list[QuotaBucket]) -> None:
    assert list(parse_quota(fields, now=NOW, wall=WALL)) == expected


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([("Auth0-Client-Quota-Limit", "")], id="empty"),
        pytest.param([("Auth0-Client-Quota-Limit", ",;=,;;,==;")], id="separators"),
        pytest.param([("Auth0-Client-Quota-Limit", " , ,\t")], id="blanks"),
        pytest.param([("Auth0-Client-Quota-Limit", "b=per_hour;q=10;t=2800")], id="nothing about what remains"),
        pytest.param([("Auth0-Client-Quota-Limit", "b=per_hour;q=10;r=seven;t=2800")], id="no number"),
        pytest.param([("Auth0-Client-Quota-Limit", "b=per_hour;q=10;r=\u0667;t=2800")], id="a digit of another script"),
        pytest.param([("Auth0-Client-Quota-Limit", "b=per_hour;q=10;r=7;t=9999999")], id="resets in 115 days"),
        pytest.param([("Auth0-Client-Quota-Limit", "b=per_hour;q=10;r=7;t=" + "9" * 5000)], id="a huge number"),
        pytest.param([("RateLimit", '"x";r=7')], id="no reset, and no window"),
        pytest.param([("RateLimit", '"x";r=7'), ("RateLimit-Policy", '"x";q=1;w=0')], id="a window of nothing"),
        pytest.param([("X-RateLimit-Remaining-Month", "7")], id="a month, without its end"),
        pytest.param(_x("soon"), id="a word for a date"),
        pytest.param(_x("9999-99-99T00:00:00Z"), id="no date"),
        pytest.param(_x(""), id="an empty reset"),
    ],
)
def test_what_cannot_be_read_is_as_good_as_none(fields: list[tuple[str, str]]) -> None:
    assert parse_quota(fields, now=NOW, wall=WALL) == ()


def test_fields_for_tokens_count_before_those_for_requests() -> None:
    """Auth0 states the rate of all requests beside the client's quota of tokens."""
    fields = [*_x("1"), ("Auth0-Client-Quota-Limit", AUTH0)]
    assert list(parse_quota(fields, now=NOW, wall=WALL)) == [HOUR, DAY]


def test_a_reset_that_has_passed_and_a_count_below_nothing_are_none() -> None:
    """Counting is eventually consistent, so a server may be one further than its own limit."""
    (bucket,) = parse_quota([("Auth0-Client-Quota-Limit", "b=per_hour;q=10;r=-2;t=-5")], now=NOW, wall=WALL)
    assert (bucket.remaining, bucket.resets_at) == (0, NOW)


def test_two_buckets_of_one_name_are_told_apart_by_number() -> None:
    buckets = parse_quota([("Auth0-Client-Quota-Limit", "x;r=1;t=1,y;r=2;t=1,z;r=3;t=1")], now=NOW, wall=WALL)
    assert [(bucket.name, bucket.remaining) for bucket in buckets] == [("window", 1), ("window_2", 2), ("window_3", 3)]


def test_a_server_cannot_fill_the_metrics_with_buckets() -> None:
    text = ",".join(f"b{number};r=1;t=1" for number in range(100))
    assert len(parse_quota([("Auth0-Client-Quota-Limit", text)], now=NOW, wall=WALL)) == 8


@pytest.mark.parametrize(
    ("name", "quota", "expected"),
    [
        ("per_day", 50, "the client's quota of tokens (50 a day)"),
        ("per_hour", 10, "the client's quota of tokens (10 an hour)"),
        ("per_hour_2", 10, "the client's quota of tokens (10 an hour)"),
        ("organization_per_day", 500, "the organization's quota of tokens (500 a day)"),
        ("per_43200s", 50, "the client's quota of tokens (50 in 43200 seconds)"),
        ("window", 50, "the client's quota of tokens (50)"),
        ("window_2", 50, "the client's quota of tokens (50)"),
        ("per_day", None, "the client's quota of tokens"),
    ],
)
def test_a_bucket_says_whose_it_is_and_how_much(name: str, quota: int | None, expected: str) -> None:
    assert QuotaBucket(name=name, quota=quota, remaining=0, resets_at=NOW).description == expected


def test_a_bucket_is_forgotten_at_its_reset() -> None:
    """What was spent from the new one since is unknown."""
    assert current_quota((HOUR, DAY), HOUR.resets_at - 0.001) == (HOUR, DAY)
    assert current_quota((HOUR, DAY), HOUR.resets_at) == (DAY,)


@pytest.mark.parametrize(
    ("remaining", "expected"),
    [((7, 47), None), ((0, 47), HOUR), ((7, 0), DAY), ((0, 0), DAY)],
    ids=["none", "the hour's", "the day's", "both: the last to reset"],
)
def test_the_bucket_that_is_used_up_is_found(remaining: tuple[int, int], expected: QuotaBucket | None) -> None:
    hour, day = (replace(bucket, remaining=left) for bucket, left in zip((HOUR, DAY), remaining, strict=True))
    found = used_up((hour, day))
    assert (found and found.name) == (expected and expected.name)


@pytest.mark.parametrize(
    ("quota", "remaining", "has_spare"),
    [
        pytest.param(50, 11, True, id="more than a fifth"),
        pytest.param(50, 10, False, id="a fifth"),
        pytest.param(52, 11, False, id="less than a whole token more"),
        pytest.param(10, 3, True, id="more than two of a small bucket"),
        pytest.param(5, 2, False, id="two"),
        pytest.param(None, 3, True, id="more than two of an unknown bucket"),
        pytest.param(None, 2, False, id="two of an unknown bucket"),
        pytest.param(50, 0, False, id="none"),
    ],
)
def test_a_fifth_of_a_bucket_and_at_least_two_tokens_are_kept(
    quota: int | None, remaining: int, *, has_spare: bool
) -> None:
    bucket = replace(DAY, quota=quota, remaining=remaining)
    assert has_spare_at((replace(HOUR, remaining=9), bucket), NOW) == (NOW if has_spare else DAY.resets_at)
    assert has_spare_at((bucket,), DAY.resets_at) == DAY.resets_at


def test_without_a_ration_there_is_always_a_token_to_spare() -> None:
    assert has_spare_at((), NOW) == NOW


_names = st.sampled_from(
    [
        "Auth0-Client-Quota-Limit",
        "Auth0-Organization-Quota-Limit",
        "RateLimit",
        "RateLimit-Policy",
        "RateLimit-Limit",
        "RateLimit-Remaining",
        "RateLimit-Reset",
        "X-RateLimit-Limit",
        "X-RateLimit-Remaining",
        "X-RateLimit-Reset",
        "X-Rate-Limit-Remaining-Secret",
    ]
) | st.text(max_size=30)
_parts = st.sampled_from(
    ["b=", "q=", "r=", "t=", "w=", "limit=", "remaining=", "reset=", ";", ",", '"', " ", "-", "per_hour", "secret", "1",
     "60", "1790000000", "2026-09-21T15:00:00Z", "Mon, 21 Sep 2026 15:00:00 GMT", "9" * 400, "\x00", "6m0s", "1e999"]
)  # fmt: skip
_values = st.lists(_parts | st.text(max_size=8), max_size=30).map("".join) | st.text(max_size=10_000)


@given(st.lists(st.tuples(_names, _values), max_size=12))
@example([("X-RateLimit-Reset", "0001-01-01T00:00:00+23:59"), ("X-RateLimit-Remaining", "1")])
@example([("X-RateLimit-Reset", "9999-12-31T23:59:59-23:59"), ("X-RateLimit-Remaining", "1")])
def test_no_field_raises_and_no_word_of_the_server_becomes_a_name(fields: list[tuple[str, str]]) -> None:
    buckets = parse_quota(fields, now=NOW, wall=WALL)
    assert len({bucket.name for bucket in buckets}) == len(buckets) <= 8
    for bucket in buckets:
        assert bucket.remaining >= 0
        assert bucket.quota is None or bucket.quota >= 0
        assert NOW <= bucket.resets_at <= NOW + LONGEST_WINDOW
        assert "secret" not in bucket.name
        assert "quota of tokens" in bucket.description
