"""What a web page in a browser on this machine may have sent, and what only a program can have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch_proxy.core.http.problems import Problem, Reject
from switch_proxy.core.http.request import RequestParser
from switch_proxy.core.policy.browsers import BrowserGuard

GUARD = BrowserGuard(hosts=["api.example.com"], origins=["http://localhost:3000"], owner="route 'a'")
OPEN = BrowserGuard(hosts=["*"], origins=["*"], owner="route 'a'")


def judge(*lines: bytes, host: bytes = b"localhost:8080", guard: BrowserGuard = GUARD) -> Reject | None:
    """Judge a request with these lines, as it would be judged if it came in over loopback."""
    parser = RequestParser(max_request_line=8192, max_field_lines=100, guard=guard)
    return parser.parse(b"\r\n".join([b"GET / HTTP/1.1", b"Host: " + host, *lines])).meaning.refusal_on_loopback


def problem(*lines: bytes, host: bytes = b"localhost:8080") -> Problem | None:
    refusal = judge(*lines, host=host)
    return None if refusal is None else refusal.problem


@pytest.mark.parametrize(
    "host",
    [
        *(b"localhost", b"localhost:8080", b"LOCALHOST.:1", b"app.localhost"),
        *(b"127.0.0.1", b"127.0.0.1:8080", b"127.9.9.9", b"[::1]:8080", b"[::ffff:127.0.0.1]"),
        *(b"api.example.com", b"API.example.com.:443"),
        # Nobody can register a name without a dot.
        *(b"a", b"switch-proxy:8080", b"SIDECAR_1", b"notlocalhost", b"x" * 63),
        pytest.param(b"", id="none"),
    ],
)
def test_a_host_that_no_attacker_can_own_is_taken(host: bytes) -> None:
    assert judge(host=host) is None


@pytest.mark.parametrize(
    "host",
    [
        *(
            b"attacker.example",
            b"attacker.example:8080",
            b"localhost.attacker.example",
            b"localhost.com",
        ),
        *(b"127.0.0.1.nip.io", b"127.0.0.1.attacker.example:8080", b"x.api.example.com", b"api.example.com.evil"),
        # Addresses that lead to loopback without being of it, and are no secure context, so that no mark is sent.
        *(b"0.0.0.0:8080", b"[::]:8080", b"10.0.0.1", b"[::ffff:10.0.0.1]", b"[fe80::1]"),
        *(b"2130706433", b"0", b"-a", b"a-", b"x" * 64),
        *(b"%6cocalhost", b"127.0.0.1%2eattacker.example", b"localhost%00.attacker.example"),
    ],
)
def test_a_host_that_an_attacker_could_own_is_misdirected(host: bytes) -> None:
    """DNS rebinding: the page's own name leads to loopback, so that its requests are of one origin."""
    assert problem(host=host) is Problem.HOST_NOT_ALLOWED
    assert Problem.HOST_NOT_ALLOWED.value.status == 421


@given(st.binary(max_size=40))
def test_of_any_bytes_only_names_of_loopback_and_those_allowed_are_taken(host: bytes) -> None:
    assert GUARD.judge(host=b"x." + host, authority=b"", origins=(), sites=()) is not None


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([b"Origin: https://attacker.example"], id="fetch or form"),
        pytest.param([b"Origin: null"], id="sandbox"),
        pytest.param([b"origin: http://attacker.example", b"Sec-Fetch-Site: same-origin"], id="at odds"),
        pytest.param([b"Origin: http://localhost:9999"], id="another port"),
        pytest.param([b"Origin: https://localhost:8080"], id="another scheme"),
        pytest.param([b"Origin: http://127.0.0.1:8080"], id="another name"),
        pytest.param([b"Origin: http://localhost:8080.attacker.example"], id="a longer name"),
        pytest.param([b"Origin:"], id="empty"),
        pytest.param([b"Origin: http://localhost:3000", b"Origin: http://attacker.example"], id="two"),
        pytest.param([b"Origin: http://localhost:3000 http://attacker.example"], id="a list"),
        pytest.param([b"Sec-Fetch-Site: cross-site"], id="image or link"),
        pytest.param([b"sec-fetch-site: Same-Site"], id="a neighbour"),
        pytest.param([b"Sec-Fetch-Site: none", b"Sec-Fetch-Site: cross-site"], id="two sites"),
        pytest.param([b"Sec-Fetch-Site: none, cross-site"], id="a list of sites"),
        pytest.param([b"Sec-Fetch-Site: something new"], id="a new word"),
        pytest.param([b"Sec-Fetch-Site:"], id="an empty site"),
        pytest.param([b"Origin: http://localhost:8080", b"Sec-Fetch-Site: cross-site"], id="after a redirect"),
    ],
)
def test_a_page_of_another_origin_is_refused(lines: list[bytes]) -> None:
    assert problem(*lines) is Problem.ORIGIN_NOT_ALLOWED
    assert Problem.ORIGIN_NOT_ALLOWED.value.status == 403


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([], id="a program"),
        pytest.param([b"Sec-Fetch-Site: none"], id="an address that a person typed"),
        pytest.param([b"Sec-Fetch-Site: same-origin"], id="a page of the API itself"),
        pytest.param([b"Origin: http://localhost:8080", b"Sec-Fetch-Site: same-origin"], id="a form of the API itself"),
        pytest.param([b"Origin: http://LocalHost:8080"], id="a WebSocket client"),
        pytest.param([b"Origin: http://localhost:3000", b"Sec-Fetch-Site: same-site"], id="a page that is allowed"),
        pytest.param([b"Origin: HTTP://localhost:3000", b"Sec-Fetch-Site: cross-site"], id="in capitals"),
    ],
)
def test_programs_the_apis_own_pages_and_allowed_pages_are_taken(lines: list[bytes]) -> None:
    """`websockets` and `websocket-client` name their target as the origin."""
    assert judge(*lines) is None


def test_a_star_switches_each_check_off() -> None:
    assert judge(b"Origin: null", b"Sec-Fetch-Site: cross-site", host=b"attacker.example", guard=OPEN) is None
    only_hosts = BrowserGuard(hosts=["*"], origins=[], owner="x")
    assert judge(host=b"attacker.example", guard=only_hosts) is None
    assert judge(b"Origin: null", guard=only_hosts) is not None
    only_origins = BrowserGuard(hosts=[], origins=["*"], owner="x")
    assert judge(b"Origin: null", guard=only_origins) is None
    assert judge(host=b"attacker.example", guard=only_origins) is not None


@pytest.mark.parametrize(
    ("lines", "host", "words"),
    [
        ([], b"gateway.default.svc:8080", ["gateway.default.svc", "allowed_hosts of route 'a'"]),
        ([b"Origin: http://localhost:5173"], b"localhost", ["http://localhost:5173", "allowed_origins of route 'a'"]),
        ([b"Sec-Fetch-Site: cross-site"], b"localhost", ["Sec-Fetch-Site", "allowed_origins of route 'a'"]),
        ([], b"a" * 253, ["a" * 253 + ","]),
        ([], b"a" * 254, ["a" * 253 + "…,"]),
    ],
)
def test_a_refusal_says_what_was_named_and_which_key_allows_it(
    lines: list[bytes], host: bytes, words: list[str]
) -> None:
    refusal = judge(*lines, host=host)
    assert refusal is not None
    assert all(word in refusal.detail for word in words)
