"""Request heads: which are accepted, what they mean, what of them is sent on, and that memory changes no answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch_proxy.core.errors import RequestError
from switch_proxy.core.http.header_rules import count_down
from switch_proxy.core.http.request import RequestHead, RequestParser, find_head_fault, head_too_large

HOST = b"Host: localhost\r\n"

MAX_LINE = 200
MAX_LINES = 20


UPGRADES = ("websocket", "a", "b")


def new_parser() -> RequestParser:
    return RequestParser(max_request_line=MAX_LINE, max_field_lines=MAX_LINES, upgrades=UPGRADES)


def parse(*lines: bytes, method: bytes = b"POST", version: bytes = b"HTTP/1.1", host: bool = True) -> RequestHead:
    """Parse a request with `lines`, a Host line among them where not said otherwise."""
    head = b"\r\n".join([method + b" /path " + version, *([b"Host: localhost"] if host else []), *lines])
    return new_parser().parse(head)


def refusal(*lines: bytes, method: bytes = b"POST", version: bytes = b"HTTP/1.1", host: bool = True) -> RequestError:
    with pytest.raises(RequestError) as caught:
        parse(*lines, method=method, version=version, host=host)
    assert str(caught.value) == caught.value.detail
    return caught.value


def forwarded(*lines: bytes, version: bytes = b"HTTP/1.1") -> bytes:
    return parse(*lines, version=version).forwarded


# The request line (RFC 9112 §3).


@pytest.mark.parametrize(
    ("line", "method", "target", "minor"),
    [
        pytest.param(b"GET / HTTP/1.1", b"GET", b"/", 1, id="the usual"),
        pytest.param(b"GET /a?b=c HTTP/1.0", b"GET", b"/a?b=c", 0, id="HTTP/1.0"),
        pytest.param(b"GET / HTTP/1.7", b"GET", b"/", 1, id="a later minor version"),
        pytest.param(b"M-SEARCH * HTTP/1.1", b"M-SEARCH", b"*", 1, id="an unknown method"),
        pytest.param(b"!#$%&'*+-.^_`|~9 / HTTP/1.1", b"!#$%&'*+-.^_`|~9", b"/", 1, id="every sign a method may have"),
        pytest.param(b"CONNECT a:443 HTTP/1.1", b"CONNECT", b"a:443", 1, id="CONNECT"),
        pytest.param(b'GET /"<>\\^`{|}\xc3\xa9%zz HTTP/1.1', b"GET", b'/"<>\\^`{|}\xc3\xa9%zz', 1, id="untidy target"),
    ],
)
def test_a_request_line_gives_method_target_and_version(line: bytes, method: bytes, target: bytes, minor: int) -> None:
    """RFC 9112 §3; a later minor version is read as the highest one known (RFC 9110 §2.5)."""
    head = new_parser().parse(line + b"\r\nHost: localhost")
    assert (head.method, head.target, head.minor) == (method, target, minor)


@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        pytest.param(b"", 400, "request line", id="nothing"),
        pytest.param(b"GET /", 400, "request line", id="HTTP/0.9"),
        pytest.param(b"GET  / HTTP/1.1", 400, "request line", id="two spaces before the target"),
        pytest.param(b"GET /  HTTP/1.1", 400, "request line", id="two spaces before the version"),
        pytest.param(b"GET / HTTP/1.1 ", 400, "request line", id="a space at the end"),
        pytest.param(b" GET / HTTP/1.1", 400, "request line", id="a space at the start"),
        pytest.param(b"GET\t/\tHTTP/1.1", 400, "request line", id="tabs for spaces"),
        pytest.param(b"GET /a b HTTP/1.1", 400, "request line", id="a space in the target"),
        pytest.param(b"GET / HTTP/1.1\r", 400, "HTTP version", id="a bare CR at the end"),
        pytest.param(b"GET / HTTP/1.1\nX:", 400, "HTTP version", id="a bare LF after the version"),
        pytest.param(b"\rGET / HTTP/1.1", 400, "method", id="a bare CR before the method"),
        pytest.param(b"\nGET / HTTP/1.1", 400, "method", id="a bare LF before the method"),
        pytest.param(b"GET / http/1.1", 400, "HTTP version", id="the version in lower case"),
        pytest.param(b"GET / HTTP/1", 400, "HTTP version", id="no minor version"),
        pytest.param(b"GET / HTTP/1.11", 400, "HTTP version", id="a minor version of two digits"),
        pytest.param(b"GET / HTTPS/1.1", 400, "HTTP version", id="another protocol"),
        pytest.param(b"GET / HTTP/1.\xd9\xa1", 400, "HTTP version", id="a digit beyond ASCII"),
        pytest.param(b"PRI * HTTP/2.0", 505, "HTTP/1.1", id="the preface of HTTP/2"),
        pytest.param(b"GET / HTTP/0.9", 505, "HTTP/1.1", id="the version 0.9"),
        pytest.param(b" / HTTP/1.1", 400, "method", id="no method"),
        pytest.param(b"GE(T / HTTP/1.1", 400, "method", id="a delimiter in the method"),
        pytest.param(b"G\xc9T / HTTP/1.1", 400, "method", id="a method beyond ASCII"),
        pytest.param(b"GET  HTTP/1.1", 400, "target", id="no target"),
        pytest.param(b"GET /\x00 HTTP/1.1", 400, "target", id="NUL in the target"),
        pytest.param(b"GET /\t HTTP/1.1", 400, "target", id="a tab in the target"),
        pytest.param(b"GET /a\rb HTTP/1.1", 400, "target", id="a bare CR in the target"),
        pytest.param(b"GET /a\nb HTTP/1.1", 400, "target", id="a bare LF in the target"),
        pytest.param(b"GET /\x7f HTTP/1.1", 400, "target", id="DEL in the target"),
        pytest.param(b"GET /a#b HTTP/1.1", 400, "target", id="a fragment"),
    ],
)
def test_a_malformed_request_line_is_refused(line: bytes, status: int, reason: str) -> None:
    """RFC 9112 §3, §2.2, §2.3: nothing is repaired, for the next reader might repair it differently."""
    with pytest.raises(RequestError, match=reason) as caught:
        new_parser().parse(line + b"\r\nHost: localhost")
    assert caught.value.status == status


@pytest.mark.parametrize("method", [b"trace", b"Trace", b"connect", b"head", b"Head", b"get", b"pOST", b"options"])
def test_a_known_method_in_another_case_is_refused(method: bytes) -> None:
    """
    RFC 9110 §9.1: methods are case-sensitive, yet some upstreams (Werkzeug) put them in upper case.

    To those `trace` would echo the token, and the body of an answer to `head` would have another length than for us.
    """
    refused = refusal(method=method)
    assert refused.status == 501
    assert f"{method.decode()} is not {method.decode().upper()}," in refused.detail


@pytest.mark.parametrize("method", [b"frobnicate", b"Purge"])
def test_an_unknown_method_that_is_not_in_upper_case_is_not_implemented(method: bytes) -> None:
    """RFC 9110 §9.1: what a server does not know gets 501."""
    refused = refusal(method=method)
    assert refused.status == 501
    assert "no such method is known" in refused.detail


def absolute_form(target: bytes, *, method: bytes = b"GET", own_port: int | None = 8080) -> RequestHead:
    parser = RequestParser(
        max_request_line=MAX_LINE, max_field_lines=10, own_hosts=("api.example", "pod.local", "127.0.0.1")
    )
    parser.own_port = own_port
    return parser.parse(method + b" " + target + b" HTTP/1.1\r\nHost: elsewhere.example")


@pytest.mark.parametrize(
    ("target", "path", "host"),
    [
        pytest.param(b"http://127.0.0.1:8080/a?b=c", b"/a?b=c", b"127.0.0.1", id="the listener's address"),
        pytest.param(b"http://localhost/a", b"/a", b"localhost", id="no port"),
        pytest.param(b"HTTP://LocalHost.:8080/A", b"/A", b"localhost", id="capitals and a dot at the end"),
        pytest.param(b"http://[::1]:8080//a", b"//a", b"::1", id="IPv6, and an empty segment"),
        pytest.param(b"http://api.example:443/a", b"/a", b"api.example", id="an upstream's host with its port"),
        pytest.param(b"http://pod.local/%2e%2E/", b"/%2e%2E/", b"pod.local", id="an allowed host, and dots"),
        pytest.param(b"http://pod.local", b"/", b"pod.local", id="no path"),
        pytest.param(b"http://pod.local?a", b"/?a", b"pod.local", id="a query alone"),
        pytest.param(b"http://pod.local/http://b/", b"/http://b/", b"pod.local", id="a URL in the path"),
    ],
)
def test_a_url_that_names_this_listener_counts_for_its_path(target: bytes, path: bytes, host: bytes) -> None:
    """RFC 9112 §3.2.2: a server takes it, and its host in place of the Host header."""
    head = absolute_form(target)
    assert (head.target, head.meaning.host) == (path, host)


def test_options_of_a_url_without_path_is_about_the_server() -> None:
    """RFC 9112 §3.2.4."""
    assert absolute_form(b"http://pod.local", method=b"OPTIONS").target == b"*"
    assert absolute_form(b"http://pod.local/", method=b"OPTIONS").target == b"/"


def test_a_port_is_anybodys_as_long_as_the_listener_has_none() -> None:
    assert absolute_form(b"http://localhost:9999/a", own_port=None).target == b"/a"


@pytest.mark.parametrize(
    ("target", "status"),
    [
        pytest.param(b"http://elsewhere.example/", 421, id="the host of the Host header alone"),
        pytest.param(b"http://127.0.0.1:9999/", 421, id="another port of this machine"),
        pytest.param(b"http://127.0.0.1:80800/", 421, id="a port with more digits"),
        pytest.param(b"http://localhost:99999999999999999999/", 421, id="a port that no port is"),
        pytest.param(b"https://pod.local/", 421, id="https"),
        pytest.param(b"ws://pod.local/", 421, id="another scheme"),
        pytest.param(b"http://pod.local.elsewhere.example/", 421, id="a longer name"),
        pytest.param(b"http://127.0.0.1.elsewhere.example/", 421, id="a name that begins as an address"),
        pytest.param(b"http://169.254.169.254/latest/", 421, id="the metadata service"),
        pytest.param(b"http://pod.local@elsewhere.example/", 400, id="a user"),
        pytest.param(b"http://elsewhere.example\\@pod.local/", 400, id="a backslash before an at sign"),
        pytest.param(b"http:///a", 400, id="no host"),
        pytest.param(b"http://:8080/a", 400, id="a port alone"),
        pytest.param(b"http://pod.local:80:80/", 400, id="two ports"),
    ],
)
def test_any_other_url_is_refused(target: bytes, status: int) -> None:
    """Nothing but the upstreams can be reached; a client that takes this for its HTTP proxy is told so."""
    with pytest.raises(RequestError) as caught:
        absolute_form(target)
    assert caught.value.status == status
    assert ("HTTP_PROXY" in caught.value.detail) == (status == 421)
    assert "elsewhere" not in caught.value.detail


@pytest.mark.parametrize(("excess", "is_accepted"), [(-1, True), (0, True), (1, False)], ids=["below", "at", "above"])
def test_a_request_line_is_limited(excess: int, *, is_accepted: bool) -> None:
    """RFC 9112 §3: a line longer than wished for is answered with 414."""
    line = b"GET /%s HTTP/1.1" % (b"a" * (MAX_LINE + excess - len(b"GET / HTTP/1.1")))
    assert len(line) == MAX_LINE + excess
    if is_accepted:
        assert new_parser().parse(line + b"\r\nHost: a").target.startswith(b"/aaa")
        return
    with pytest.raises(RequestError, match="200 bytes") as caught:
        new_parser().parse(line + b"\r\nHost: a")
    assert caught.value.status == 414


@pytest.mark.parametrize(("excess", "is_accepted"), [(-1, True), (0, True), (1, False)], ids=["below", "at", "above"])
@pytest.mark.parametrize("line", [b"A: b", b"Accept: b", b"Connection: b"], ids=["short", "plain", "significant"])
def test_the_number_of_field_lines_is_limited(line: bytes, excess: int, *, is_accepted: bool) -> None:
    """RFC 6585 §5: more lines than wished for are answered with 431; each line counts, repeated or not."""
    lines = [line] * (MAX_LINES + excess - 1)
    if is_accepted:
        assert parse(*lines)
        return
    error = refusal(*lines)
    assert (error.status, "20 header lines" in error.detail) == (431, True)


# The field section (RFC 9112 §5).


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"A: b\r\n c", id="folded line"),
        pytest.param(b"A : b", id="space before the colon"),
        pytest.param(b"A\x0b: b", id="vertical tab before the colon"),
        pytest.param(b"A", id="no colon"),
        pytest.param(b": b", id="no name"),
        pytest.param(b"A: b\rc", id="bare CR"),
        pytest.param(b"A: b\nTransfer-Encoding: chunked", id="bare LF"),
        pytest.param(b"A: b\x00", id="NUL"),
        pytest.param(b"A\x00: b", id="NUL in the name"),
        pytest.param(b"Transfer-Encoding\x00: chunked", id="NUL after a name that frames"),
        pytest.param(b"\xefA: b", id="name beyond ASCII"),
        pytest.param(b"A[]: b", id="brackets in the name"),
        pytest.param(b"", id="empty line"),
    ],
)
@pytest.mark.parametrize("place", ["first", "last"])
def test_a_malformed_field_line_is_refused(place: str, line: bytes) -> None:
    """RFC 9112 §5, §5.1, §5.2, §2.2: 400, and no part of it is forwarded."""
    error = refusal(line, b"Host: localhost", host=False) if place == "first" else refusal(b"Accept: x", line, b"B: c")
    assert error.status == 400


@pytest.mark.parametrize(
    "hosts",
    [
        pytest.param([], id="none"),
        pytest.param([b"Host: a", b"Host: b"], id="two"),
        pytest.param([b"Host: a", b"host: a"], id="twice the same"),
        pytest.param([b"Host: a b"], id="blank within"),
        pytest.param([b"Host: a, b"], id="list"),
        pytest.param([b"Host: http://a"], id="URL"),
        pytest.param([b"Host: a/b"], id="path"),
        pytest.param([b"Host: u@a"], id="user information"),
        pytest.param([b"Host: a:b"], id="port that is a word"),
        pytest.param([b"Host: [::1"], id="open bracket"),
        pytest.param([b"Host: a%zz"], id="percent sign without digits"),
        pytest.param([b"Host: a%2"], id="percent sign with one digit"),
        pytest.param([b"Host: [zzz]"], id="name in brackets"),
        pytest.param([b"Host: [1.2.3.4]"], id="IPv4 in brackets"),
        pytest.param([b"Host: [::1::]"], id="two gaps"),
        pytest.param([b"Host: [12345::]"], id="group that is too long"),
        pytest.param([b"Host: []"], id="empty brackets"),
        pytest.param([b"Host: [fe80::1%eth0]"], id="zone that is not percent-encoded"),
        pytest.param([b"Host: [v.a]"], id="version without a number"),
        pytest.param([b"Host: \xe4"], id="beyond ASCII"),
    ],
)
def test_a_request_whose_host_is_in_doubt_is_refused(hosts: list[bytes]) -> None:
    """RFC 9112 §3.2: 400 for a Host that is missing, repeated or invalid."""
    error = refusal(*hosts, host=False)
    assert (error.status, "§3.2" in error.detail) == (400, True)


@pytest.mark.parametrize(
    ("line", "host"),
    [
        pytest.param(b"Host: a", b"a", id="name"),
        pytest.param(b"hOsT:A.Example:80", b"a.example", id="spelling and port"),
        pytest.param(b"Host: a.example.:80", b"a.example", id="dot at the end"),
        pytest.param(b"Host:", None, id="empty"),
        pytest.param(b"Host: [::1]:9000", b"::1", id="IPv6"),
        pytest.param(b"Host: [::ffff:1.2.3.4]", b"::ffff:1.2.3.4", id="IPv4 within IPv6"),
        pytest.param(b"Host: [fe80::1%25eth0]", b"fe80::1%25eth0", id="IPv6 with a zone"),
        pytest.param(b"Host: [v1.a:b]", b"v1.a:b", id="address of the future"),
        pytest.param(b"Host: a%2Fb", b"a%2fb", id="percent-encoded"),
    ],
)
def test_a_request_with_one_good_host_is_accepted(line: bytes, host: bytes | None) -> None:
    """RFC 9112 §3.2; an empty Host is one, for a target without authority."""
    assert parse(line, host=False).meaning.host == host


def test_an_http_1_0_request_needs_no_host() -> None:
    """RFC 9112 §3.2 asks it of HTTP/1.1 only."""
    assert parse(host=False, version=b"HTTP/1.0").meaning.host is None


def test_an_http_1_0_request_may_still_not_have_two_hosts() -> None:
    """RFC 9112 §3.2: more than one Host line is refused whatever the version."""
    assert refusal(b"Host: a", b"Host: b", host=False, version=b"HTTP/1.0").status == 400


# Framing (RFC 9112 §6).


@pytest.mark.parametrize(
    ("lines", "content_length", "is_chunked"),
    [
        pytest.param([], -1, False, id="neither"),
        pytest.param([b"Content-Length: 0"], 0, False, id="no bytes"),
        pytest.param([b"content-length:\t12 "], 12, False, id="length in another spelling"),
        pytest.param([b"Content-Length: 007"], 7, False, id="leading zeros"),
        pytest.param([b"Content-Length: " + b"9" * 18], 10**18 - 1, False, id="the longest length"),
        pytest.param([b"Transfer-Encoding: chunked"], -1, True, id="chunked"),
        pytest.param([b"transfer-encoding:CHUNKED"], -1, True, id="chunked in another spelling"),
        pytest.param([b"Connection: content-length", b"Content-Length: 3"], 3, False, id="length named by Connection"),
        pytest.param(
            [b"Connection: transfer-encoding", b"Transfer-Encoding: chunked"],
            -1,
            True,
            id="chunked named by Connection",
        ),
    ],
)
def test_the_framing_of_a_request_is_understood(lines: list[bytes], content_length: int, *, is_chunked: bool) -> None:
    """RFC 9112 §6.3: Transfer-Encoding, or Content-Length, or no body."""
    meaning = parse(*lines).meaning
    assert (meaning.content_length, meaning.is_chunked) == (content_length, is_chunked)


SMUGGLING = [
    pytest.param([b"Content-Length: 3", b"Transfer-Encoding: chunked"], 400, id="length and chunked"),
    pytest.param([b"Transfer-Encoding: chunked", b"Content-Length: 3"], 400, id="chunked and length"),
    pytest.param([b"Transfer-Encoding: identity", b"Content-Length: 3"], 400, id="length and another coding"),
    pytest.param([b"Content-Length: 3", b"Content-Length: 4"], 400, id="two lengths"),
    pytest.param([b"Content-Length: 3", b"Content-Length: 3"], 400, id="the same length twice"),
    pytest.param([b"Content-Length: 3, 3"], 400, id="list of lengths"),
    pytest.param([b"Content-Length: "], 400, id="empty length"),
    pytest.param([b"Content-Length: +3"], 400, id="plus"),
    pytest.param([b"Content-Length: -1"], 400, id="minus"),
    pytest.param([b"Content-Length: 0x3"], 400, id="hexadecimal"),
    pytest.param([b"Content-Length: 1e1"], 400, id="exponent"),
    pytest.param([b"Content-Length: 3 3"], 400, id="blank within"),
    pytest.param([b"Content-Length: 1_0"], 400, id="underscore"),
    pytest.param([b"Content-Length: \xb2"], 400, id="a digit of Latin-1"),
    pytest.param([b"Content-Length: " + b"9" * 19], 400, id="beyond 64 bits"),
    pytest.param([b"Transfer-Encoding: "], 400, id="empty coding"),
    pytest.param([b"Transfer-Encoding: identity"], 400, id="identity"),
    pytest.param([b"Transfer-Encoding: gzip"], 400, id="another coding"),
    pytest.param([b"Transfer-Encoding: chunked, gzip"], 400, id="chunked not last"),
    pytest.param([b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip"], 400, id="chunked not last, on two lines"),
    pytest.param([b"Transfer-Encoding: chunked, chunked"], 400, id="chunked twice"),
    pytest.param([b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"], 400, id="chunked twice, on two lines"),
    pytest.param([b"Transfer-Encoding: chunked,"], 400, id="chunked and an empty member"),
    pytest.param([b"Transfer-Encoding:", b"Transfer-Encoding: chunked"], 400, id="an empty line and chunked"),
    pytest.param([b"Transfer-Encoding: xchunked"], 400, id="a name that ends in chunked"),
    pytest.param([b"Transfer-Encoding: chunked;q=1"], 400, id="parameter"),
    pytest.param([b'Transfer-Encoding: "chunked"'], 400, id="quotes"),
    pytest.param([b"Transfer-Encoding: chunked\xa0"], 400, id="no-break space"),
    pytest.param([b"Transfer-Encoding: \x0bchunked"], 400, id="vertical tab"),
    pytest.param([b"Transfer-Encoding : chunked"], 400, id="space before the colon"),
    pytest.param([b"Transfer-Encoding:\r\n chunked"], 400, id="folded"),
    pytest.param([b"Transfer-Encoding: gzip, chunked"], 501, id="a coding that is not understood"),
    pytest.param([b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"], 501, id="the same on two lines"),
]


@pytest.mark.parametrize(("lines", "status"), SMUGGLING)
def test_a_request_whose_framing_is_in_doubt_is_refused(lines: list[bytes], status: int) -> None:
    """RFC 9112 §6.1, §6.3, §11.2: what two readers can take differently is how requests are smuggled."""
    assert refusal(*lines).status == status


@pytest.mark.parametrize(("lines", "status"), SMUGGLING)
def test_a_parser_that_has_judged_good_lines_still_refuses_doubtful_ones(lines: list[bytes], status: int) -> None:
    """Each line alone may be known and good; the section must be judged as a whole, each time."""
    parser = new_parser()
    for good in (HOST + b"Content-Length: 3", HOST + b"Content-Length: 4", HOST + b"Transfer-Encoding: chunked"):
        parser.parse(b"POST / HTTP/1.1\r\n" + good)
    for _ in range(2):
        with pytest.raises(RequestError) as caught:
            parser.parse(b"POST / HTTP/1.1\r\n" + HOST + b"\r\n".join(lines))
        assert caught.value.status == status


def test_an_http_1_0_request_with_a_transfer_coding_is_refused() -> None:
    """RFC 9112 §6.1: its sender cannot have meant it, so its framing is faulty."""
    error = refusal(b"Transfer-Encoding: chunked", version=b"HTTP/1.0")
    assert (error.status, "HTTP/1.0" in error.detail) == (400, True)


# What the other lines mean.


@pytest.mark.parametrize(
    ("version", "lines", "is_persistent"),
    [
        pytest.param(b"HTTP/1.1", [], True, id="1.1"),
        pytest.param(b"HTTP/1.1", [b"Connection: close"], False, id="1.1 with close"),
        pytest.param(b"HTTP/1.1", [b"Connection: x", b"connection: y, CLOSE"], False, id="1.1 with close in a list"),
        pytest.param(b"HTTP/1.1", [b"Connection: keep-alive, close"], False, id="1.1 with both"),
        pytest.param(b"HTTP/1.1", [b"Connection: closed"], True, id="1.1 with a word like close"),
        pytest.param(b"HTTP/1.1", [b"Proxy-Connection: close"], True, id="1.1 with a field that is none"),
        pytest.param(b"HTTP/1.0", [], False, id="1.0"),
        pytest.param(b"HTTP/1.0", [b"Connection: Keep-Alive"], True, id="1.0 with keep-alive"),
        pytest.param(b"HTTP/1.0", [b"Connection: keep-alive, close"], False, id="1.0 with both"),
        pytest.param(b"HTTP/1.0", [b"Keep-Alive: timeout=5"], False, id="1.0 with the wrong field"),
    ],
)
def test_a_connection_persists_as_its_client_says(version: bytes, lines: list[bytes], *, is_persistent: bool) -> None:
    """RFC 9112 §9.3: close wins; then 1.1 persists; 1.0 only with keep-alive."""
    assert parse(*lines, version=version).is_persistent is is_persistent


@pytest.mark.parametrize(
    ("version", "lines", "expects_continue"),
    [
        pytest.param(b"HTTP/1.1", [], False, id="no expectation"),
        pytest.param(b"HTTP/1.1", [b"Expect: 100-Continue"], True, id="100-continue"),
        pytest.param(b"HTTP/1.1", [b"Expect: a", b"Expect: 100-continue"], True, id="among others"),
        pytest.param(b"HTTP/1.1", [b"Expect: 200-ok"], False, id="another expectation"),
        pytest.param(b"HTTP/1.0", [b"Expect: 100-continue"], False, id="HTTP/1.0"),
        pytest.param(b"HTTP/1.1", [b"Connection: expect", b"Expect: 100-continue"], False, id="for this hop alone"),
    ],
)
def test_an_expectation_is_noticed(version: bytes, lines: list[bytes], *, expects_continue: bool) -> None:
    """RFC 9110 §10.1.1: an HTTP/1.0 client's is ignored; what is not passed on is not waited for either."""
    head = parse(*lines, version=version)
    assert head.meaning.expects_continue is expects_continue
    if expects_continue:
        assert b"100-continue" in head.forwarded.lower()
    else:
        assert b"100-continue" not in head.forwarded.lower()


@pytest.mark.parametrize(
    ("version", "lines", "upgrade"),
    [
        pytest.param(b"HTTP/1.1", [b"Connection: Upgrade", b"Upgrade: websocket"], b"websocket", id="asked for"),
        pytest.param(
            b"HTTP/1.1", [b"Upgrade: a/1", b"Connection: x, upgrade", b"Upgrade: B"], b"a/1, B", id="two protocols"
        ),
        pytest.param(b"HTTP/1.1", [b"Connection: upgrade", b"Upgrade: c, h2c, b"], b"b", id="two that do not pass"),
        pytest.param(b"HTTP/1.1", [b"Connection: upgrade", b"Upgrade: h2c"], None, id="none that passes"),
        pytest.param(b"HTTP/1.1", [b"Upgrade: websocket"], None, id="without Connection"),
        pytest.param(b"HTTP/1.1", [b"Connection: upgrade"], None, id="without Upgrade"),
        pytest.param(b"HTTP/1.1", [b"Connection: upgrade", b"Upgrade:"], None, id="empty Upgrade"),
        pytest.param(b"HTTP/1.0", [b"Connection: Upgrade", b"Upgrade: websocket"], None, id="HTTP/1.0"),
    ],
)
def test_an_upgrade_is_passed_on_where_it_is_asked_for(
    version: bytes, lines: list[bytes], upgrade: bytes | None
) -> None:
    """RFC 9110 §7.8: Upgrade needs its Connection option, and HTTP/1.0 has none."""
    head = parse(*lines, version=version)
    assert head.meaning.upgrade == upgrade
    expected = b"" if upgrade is None else b"Upgrade: " + upgrade + b"\r\nConnection: Upgrade\r\n"
    assert head.forwarded == expected


@pytest.mark.parametrize(
    ("version", "lines", "is_passed"),
    [
        pytest.param(b"HTTP/1.1", [b"TE: trailers"], True, id="trailers"),
        pytest.param(b"HTTP/1.1", [b"TE: gzip;q=0.5, Trailers", b"Connection: TE"], True, id="among codings"),
        pytest.param(b"HTTP/1.1", [b"TE: gzip"], False, id="a coding alone"),
        pytest.param(b"HTTP/1.1", [b"TE: trailers-x"], False, id="a word like trailers"),
        pytest.param(b"HTTP/1.0", [b"TE: trailers"], False, id="HTTP/1.0"),
    ],
)
def test_the_wish_for_trailers_is_passed_on_and_no_other_coding(
    version: bytes, lines: list[bytes], *, is_passed: bool
) -> None:
    """RFC 9110 §10.1.4: TE is for one hop; that trailers are wished for is true of the next one too."""
    assert forwarded(*lines, version=version) == (b"TE: trailers\r\nConnection: TE\r\n" if is_passed else b"")


def test_what_is_agreed_for_the_next_hop_is_named_in_one_connection_line() -> None:
    """RFC 9110 §7.6.1: each field for one hop is named by Connection."""
    lines = [b"TE: trailers", b"Upgrade: websocket", b"Connection: upgrade, te", b"Transfer-Encoding: chunked"]
    assert forwarded(*lines) == (
        b"Transfer-Encoding: chunked\r\nTE: trailers\r\nUpgrade: websocket\r\nConnection: TE, Upgrade\r\n"
    )


@pytest.mark.parametrize(
    ("lines", "max_forwards"),
    [
        pytest.param([], None, id="none"),
        pytest.param([b"Max-Forwards: 0"], 0, id="used up"),
        pytest.param([b"Max-Forwards: 12"], 12, id="some left"),
        pytest.param([b"Max-Forwards: -1"], None, id="below zero"),
        pytest.param([b"Max-Forwards: x"], None, id="no number"),
        pytest.param([b"Max-Forwards: 1", b"Max-Forwards: 2"], None, id="two"),
    ],
)
def test_the_hop_limit_is_read_and_passed(lines: list[bytes], max_forwards: int | None) -> None:
    """RFC 9110 §7.6.2: it counts for OPTIONS (TRACE is refused); for other methods it may be ignored, so it passes unchanged."""
    head = parse(*lines)
    assert (head.meaning.max_forwards, head.forwarded) == (max_forwards, b"".join(line + b"\r\n" for line in lines))


def test_a_hop_limit_that_is_for_this_hop_does_not_count() -> None:
    """RFC 9110 §7.6.1."""
    head = parse(b"Max-Forwards: 3", b"Connection: max-forwards")
    assert (head.meaning.max_forwards, head.forwarded) == (None, b"")


def test_the_hop_limit_is_lowered_where_it_stands() -> None:
    """RFC 9110 §7.6.2."""
    assert count_down(b"a: 1\r\nmax-Forwards:  07 \r\nb: 2\r\n", 7) == b"a: 1\r\nmax-Forwards: 6\r\nb: 2\r\n"


@pytest.mark.parametrize(
    ("lines", "request_id", "passed"),
    [
        pytest.param([], None, b"", id="none"),
        pytest.param([b"X-Request-Id: a"], b"a", b"X-Request-Id: a\r\n", id="one"),
        pytest.param([b"x-request-id:\ta b "], b"a b", b"x-request-id:\ta b \r\n", id="in another spelling"),
        pytest.param([b"X-Request-Id: \xe9:"], None, b"", id="beyond ASCII"),
        pytest.param([b"X-Request-Id: a\tb"], None, b"", id="a tab within"),
        pytest.param(
            [b"X-Request-Id: " + b"a" * 128], b"a" * 128, b"X-Request-Id: " + b"a" * 128 + b"\r\n", id="the longest"
        ),
        pytest.param([b"X-Request-Id: " + b"a" * 129, b"X-A: b"], None, b"X-A: b\r\n", id="too long"),
        pytest.param([b"X-Request-Id: a", b"Connection: x-request-id"], None, b"", id="for this hop alone"),
        pytest.param([b"X-Request-Id:  "], None, b"", id="empty"),
    ],
)
def test_the_clients_request_id_is_taken_where_it_is_passed_on(
    lines: list[bytes], request_id: bytes | None, passed: bytes
) -> None:
    """The id in our log is the one the upstream sees; where there is none, the line must not stand there empty."""
    head = parse(*lines)
    assert (head.request_id, head.forwarded) == (request_id, passed)


# What is sent on.


def test_lines_are_sent_on_in_order_with_duplicates_and_spelling() -> None:
    """RFC 9110 §7.6, §5.3: bytes that are not ours to change pass unchanged."""
    lines = [b"b: 2", b"A:1", b"X-Y:\t z  ", b"a: 3", b"Cookie: a=b", b"B: 2", b"cookie: c=d", b"A:1", b"X-\x7e: \xff"]
    assert forwarded(*lines) == b"".join(line + b"\r\n" for line in lines)


def test_the_length_is_sent_on_as_received_and_in_place() -> None:
    """RFC 9110 §8.6: the one length there is stays where it was."""
    assert forwarded(b"A: 1", b"content-length:5", b"B: 2") == b"A: 1\r\ncontent-length:5\r\nB: 2\r\n"


def test_the_transfer_coding_is_written_anew_at_the_end() -> None:
    """RFC 9112 §6.1: the body is framed by us for the next hop."""
    assert forwarded(b"transfer-encoding:  CHUNKED", b"A: 1") == b"A: 1\r\nTransfer-Encoding: chunked\r\n"


@pytest.mark.parametrize(
    "line",
    [
        b"Connection: x",
        b"Keep-Alive: timeout=5",
        b"Proxy-Connection: keep-alive",
        b"Proxy-Authorization: Basic c2VjcmV0",
        b"Proxy-Authenticate: Basic",
        b"Proxy-Authentication-Info: x",
        b"TE: gzip",
        b"Upgrade: h2c",
        b"Authorization: Bearer theirs",
        b"AUTHORIZATION:Basic x",
        b"Host: other",
    ],
    ids=lambda line: line.partition(b":")[0].decode(),
)
def test_a_line_that_ends_here_is_not_sent_on(line: bytes) -> None:
    """RFC 9110 §7.6.1, §11.7; Authorization and Host are written anew."""
    has_host = line.startswith(b"Host")
    head = parse(b"A: 1", line, b"B: 2", host=not has_host)
    assert head.forwarded == b"A: 1\r\nB: 2\r\n"


@pytest.mark.parametrize(
    ("options", "passed"),
    [
        pytest.param(b"x-hop", b"X-Hop-2: b\r\n", id="one"),
        pytest.param(b"X-HOP, x-hop-2", b"", id="two in capitals"),
        pytest.param(b"close", b"X-Hop: a\r\nX-Hop-2: b\r\nX-Hop: c\r\n", id="close names no field"),
        pytest.param(b"keep-alive,,", b"X-Hop: a\r\nX-Hop-2: b\r\nX-Hop: c\r\n", id="keep-alive"),
        pytest.param(b"x", b"X-Hop: a\r\nX-Hop-2: b\r\nX-Hop: c\r\n", id="a name that is absent"),
    ],
)
def test_lines_named_by_connection_end_here(options: bytes, passed: bytes) -> None:
    """RFC 9110 §7.6.1: each option names the lines that were for this hop alone."""
    assert forwarded(b"X-Hop: a", b"X-Hop-2: b", b"Connection: " + options, b"X-Hop: c") == passed


def test_a_client_cannot_have_its_framing_dropped() -> None:
    """The length that was judged is the length that is sent on, whatever Connection says."""
    lines = [b"Connection: content-length, host", b"Content-Length: 3"]
    assert forwarded(*lines) == b"Content-Length: 3\r\n"


def test_the_settings_of_an_upgrade_to_http_2_end_here() -> None:
    """RFC 7540 §3.2.1: HTTP2-Settings is for one hop; without it no upstream can switch to HTTP/2 past this proxy."""
    lines = [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"]
    assert b"http2-settings" not in forwarded(*lines).lower()


@pytest.mark.parametrize("lines", [[], [b"Expect: 100-continue", b"Connection: close"]], ids=["none", "all end here"])
def test_nothing_is_sent_on_where_nothing_passes(lines: list[bytes]) -> None:
    """An empty section is no empty line, which would end the head."""
    assert forwarded(*lines, version=b"HTTP/1.0") == b""


# The same by a model of its own, over all sorts of sections.

HOP_NAMES = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "http2-settings",
]
UPGRADE_VALUES = [b"websocket", b"WebSocket/13", b"h2c", b"h2c, a,b", b"websocketx", b",", b"HTTP/2.0"]

REWRITTEN_NAMES = ["host", "authorization", "max-forwards"]

TOKENS = st.text(alphabet="abcXYZ019-_.!~", min_size=1, max_size=8)


@st.composite
def spelled(draw: st.DrawFn, name: str) -> str:
    return "".join(letter.upper() if draw(st.booleans()) else letter for letter in name)


@st.composite
def field_lines(draw: st.DrawFn) -> list[bytes]:
    """Draw the lines of a section that has one good Host and good framing, in any order and spelling."""
    names = draw(st.lists(TOKENS, min_size=1, max_size=4))
    options = draw(st.lists(st.sampled_from([*names, "close", "keep-alive", "TE", "Upgrade", "content-length", ""])))
    pairs = [("host", b"example.com")]
    framing = draw(st.sampled_from([None, ("content-length", b"12"), ("transfer-encoding", b"Chunked")]))
    if framing is not None:
        pairs.append(framing)
    if options:
        pairs.append(("connection", ", ".join(options).encode()))
    others = [*names, "x-trace-id", "cookie", "via", "keep-alive", "te", "upgrade", "proxy-authorization"]
    values = st.binary(max_size=12).map(
        lambda value: bytes(byte for byte in value if byte in b"\t " or 32 < byte != 127)
    )
    pairs += draw(st.lists(st.tuples(st.sampled_from([*others, "authorization"]), values), max_size=10))
    pairs += [("upgrade", value) for value in draw(st.lists(st.sampled_from(UPGRADE_VALUES), max_size=2))]
    pairs = draw(st.permutations(pairs))
    blanks = st.sampled_from([b"", b" ", b"\t", b"  "])
    return [draw(spelled(name)).encode() + b":" + draw(blanks) + value + draw(blanks) for name, value in pairs]


def split_line(line: bytes) -> tuple[str, bytes]:
    name, _, value = line.partition(b":")
    return name.decode().lower(), value.strip(b" \t")


@given(lines=field_lines(), version=st.sampled_from([b"HTTP/1.1", b"HTTP/1.0"]))
def test_what_is_sent_on_is_what_was_received_less_what_ends_here(lines: list[bytes], version: bytes) -> None:
    """RFC 9110 §7.6.1: order, duplicates and bytes of all other lines stay; no line of one hop passes as it came."""
    pairs = [split_line(line) for line in lines]
    if version == b"HTTP/1.0" and any(name == "transfer-encoding" for name, _ in pairs):
        assert refusal(*lines, version=version, host=False).status == 400
        return
    head = parse(*lines, version=version, host=False)

    options = {
        option.strip().lower() for name, value in pairs if name == "connection" for option in value.decode().split(",")
    } - {"", "content-length"}
    ended = {*HOP_NAMES, *REWRITTEN_NAMES, *options, *(["expect"] if version == b"HTTP/1.0" else [])}
    passed = [line for line, (name, _) in zip(lines, pairs, strict=True) if name not in ended]
    sent = head.forwarded.split(b"\r\n")
    assert sent.pop() == b""
    assert sent[: len(passed)] == passed

    added = dict(split_line(line) for line in sent[len(passed) :])
    assert len(added) == len(sent) - len(passed)
    expected: dict[str, bytes] = {}
    if head.meaning.is_chunked:
        expected["transfer-encoding"] = b"chunked"
    if version == b"HTTP/1.1":
        if any(name == "te" and b"trailers" in value.lower().split(b",") for name, value in pairs):
            expected["te"] = b"trailers"
        offers = [part.strip(b" \t") for name, value in pairs if name == "upgrade" for part in value.split(b",")]
        protocols = [offer for offer in offers if offer.lower().split(b"/")[0].decode("latin-1") in UPGRADES]
        if "upgrade" in options and protocols:
            expected["upgrade"] = b", ".join(protocols)
    hops = [name for name in ("TE", "Upgrade") if name.lower() in expected]
    if hops:
        expected["connection"] = ", ".join(hops).encode()
    assert added == expected


@given(lines=field_lines())
def test_what_is_sent_on_is_read_again_as_the_same_request(lines: list[bytes]) -> None:
    """What leaves is well formed, has the same framing, and has nothing more in it to end at a hop."""
    first = parse(*lines, host=False)
    head = b"POST /path HTTP/1.1\r\nHost: upstream\r\n" + first.forwarded
    again = new_parser().parse(head.removesuffix(b"\r\n"))
    assert again.forwarded == first.forwarded
    assert again.request_id == first.request_id
    assert (again.meaning.content_length, again.meaning.is_chunked, again.meaning.upgrade) == (
        first.meaning.content_length,
        first.meaning.is_chunked,
        first.meaning.upgrade,
    )


# Memory (RequestParser's promise).

ANY_LINES = st.lists(
    st.sampled_from(
        [
            b"Host: a",
            b"host: a",
            b"Content-Length: 3",
            b"Content-Length: 4",
            b"Transfer-Encoding: chunked",
            b"Transfer-Encoding: gzip",
            b"Connection: close",
            b"Connection: x-a",
            b"Connection: Upgrade, TE",
            b"Upgrade: websocket",
            b"TE: trailers",
            b"Expect: 100-continue",
            b"Max-Forwards: 1",
            b"X-Request-Id: 1",
            b"X-Request-Id: 2",
            b"X-Request-Id:",
            b"X-A: 1",
            b"x-a:2",
            b"X-Long: " + b"y" * 700,
            b"Connection: " + b"z" * 2100,
            b"Bad : line",
            b" folded",
        ]
    ),
    max_size=7,
)


def outcome(parser: RequestParser, head: bytes) -> tuple[object, ...]:
    """Return all there is to know of what a parser makes of a head."""
    try:
        parsed = parser.parse(head)
    except RequestError as error:
        return ("refused", error.status, error.detail)
    return (
        parsed.method,
        parsed.target,
        parsed.minor,
        parsed.meaning,
        parsed.request_id,
        parsed.forwarded,
        parsed.is_persistent,
    )


@given(
    requests=st.lists(
        st.tuples(st.sampled_from([b"GET / HTTP/1.1", b"POST /a HTTP/1.0", b"GET /b HTTP/1.2", b"BAD"]), ANY_LINES),
        min_size=1,
        max_size=6,
    )
)
def test_a_parser_in_use_answers_as_a_new_one_does(requests: list[tuple[bytes, list[bytes]]]) -> None:
    """What is remembered of earlier heads, of whatever version and whether refused or not, never changes an answer."""
    used = new_parser()
    heads = [b"\r\n".join([line, *lines]) for line, lines in requests]
    for head in [*heads, *heads]:
        assert outcome(used, head) == outcome(new_parser(), head)


@pytest.mark.parametrize("first", [b"HTTP/1.1", b"HTTP/1.0"])
def test_the_same_lines_mean_different_things_in_different_minor_versions(first: bytes) -> None:
    """RFC 9110 §2.5, §7.8, §10.1.1: what was judged for one version is no judgement for the other."""
    parser = new_parser()
    section = HOST + b"Expect: 100-continue\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket"
    versions = [first, b"HTTP/1.1" if first == b"HTTP/1.0" else b"HTTP/1.0"] * 2
    upgrades = [parser.parse(b"GET / " + version + b"\r\n" + section).meaning.upgrade for version in versions]
    assert upgrades == [b"websocket" if version == b"HTTP/1.1" else None for version in versions]


def test_a_section_known_from_http_1_0_is_refused_in_http_1_1_for_want_of_a_host() -> None:
    """RFC 9112 §3.2 binds HTTP/1.1 only; the remembered answer of the one must not reach the other."""
    parser = new_parser()
    parser.parse(b"GET / HTTP/1.0\r\nAccept: x")
    with pytest.raises(RequestError, match="Host header is missing"):
        parser.parse(b"GET / HTTP/1.1\r\nAccept: x")


def test_a_new_request_id_in_known_lines_is_read_anew() -> None:
    """The significant lines are known, the section is not: the id must be this request's own."""
    parser = new_parser()
    ids = [parser.parse(b"GET / HTTP/1.1\r\n" + HOST + b"X-Request-Id: %d" % number).request_id for number in range(3)]
    assert ids == [b"0", b"1", b"2"]


def test_what_is_remembered_is_shared_and_not_changed_by_use() -> None:
    """Two requests with the same lines share one judgement, which must come out as it went in."""
    parser = new_parser()
    head = b"GET / HTTP/1.1\r\n" + HOST + b"A: 1\r\nConnection: close"
    first, second = parser.parse(head), parser.parse(head)
    assert first.meaning is second.meaning
    assert outcome(parser, head) == outcome(new_parser(), head)


def test_the_memory_of_a_parser_is_bounded() -> None:
    """A client that sends ever new lines must not make the process grow: each memory is emptied when full."""
    parser = new_parser()
    largest = 0
    for number in range(3000):
        section = HOST + b"Content-Length: %d\r\nX-A: %d" % (number, number)
        head = parser.parse(b"POST / HTTP/1.%d\r\n%s" % (number % 2, section))
        assert head.meaning.content_length == number
        memories = (*parser._sections, *parser._meanings)
        largest = max(largest, *(len(memory) for memory in memories))
    assert largest == 256


def test_long_sections_are_not_remembered() -> None:
    """256 sections of 64 KiB would be 16 MiB: what is long is judged anew each time, with the same answer."""
    parser = new_parser()
    head = b"GET / HTTP/1.1\r\n" + HOST + b"Connection: " + b"a" * 3000
    assert outcome(parser, head) == outcome(parser, head) == outcome(new_parser(), head)
    assert not any((*parser._sections, *parser._meanings))


# Heads that have not ended yet.


@pytest.mark.parametrize(
    ("partial", "status"),
    [
        pytest.param(b"", None, id="nothing yet"),
        pytest.param(b"G", None, id="one byte"),
        pytest.param(b"GET / HTTP/1.1\r", None, id="half a line end"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n\r", None, id="all but one byte"),
        pytest.param(b"GET / HTTP/1.1\n", 400, id="bare LF"),
        pytest.param(b"\n", 400, id="bare LF at once"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\n", 400, id="bare LF on a later line"),
        pytest.param(b"a" * (MAX_LINE + 2), 414, id="a line without end"),
        pytest.param(b"a\n" + b"a" * MAX_LINE, 400, id="bare LF before a line is too long"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"a" * 400, 431, id="a section without end"),
    ],
)
def test_a_head_that_cannot_become_good_is_refused_before_it_ends(partial: bytes, status: int | None) -> None:
    """RFC 9112 §2.2, §3; RFC 6585 §5: a client that goes on for ever is answered all the same."""
    fault = find_head_fault(partial, max_request_line=MAX_LINE, max_head=300)
    assert (fault and fault.status) == status


@given(lines=field_lines(), padding=st.integers(0, 150))
def test_no_part_of_a_good_head_at_the_limits_is_refused(lines: list[bytes], padding: int) -> None:
    """However a head comes in pieces, it is judged as if it came at once: the limits are those of the whole."""
    line = b"POST /" + b"a" * padding + b" HTTP/1.1"
    head = b"\r\n".join([line, *lines])
    new_parser().parse(head)
    whole = head + b"\r\n\r\n"
    faults = [find_head_fault(whole[:end], max_request_line=len(line), max_head=len(head)) for end in range(len(whole))]
    assert faults == [None] * len(whole)


def test_what_was_judged_before_is_not_judged_again() -> None:
    """The line is within its limit once more bytes than that have been seen."""
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX-A: " + b"a" * MAX_LINE
    assert find_head_fault(head, max_request_line=MAX_LINE, max_head=1000, seen=MAX_LINE + 1) is None


def test_a_head_that_is_too_large_is_answered_with_431() -> None:
    """RFC 6585 §5."""
    error = head_too_large(300)
    assert (error.status, "300 bytes" in error.detail) == (431, True)


def test_a_long_request_line_is_known_in_any_segmentation() -> None:
    """RFC 9112 §3: 414, whether its end has come or not, and though the head is too large as well."""
    whole = b"GET /" + b"a" * MAX_LINE + b" HTTP/1.1\r\nHost: a\r\nX-A: " + b"a" * 400
    faults = [find_head_fault(whole[:end], max_request_line=MAX_LINE, max_head=300) for end in range(len(whole) + 1)]
    assert [fault and fault.status for fault in faults] == [None] * (MAX_LINE + 1) + [414] * (len(whole) - MAX_LINE)


@given(st.binary(max_size=80), st.sampled_from([b"", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n"]))
def test_any_bytes_are_a_head_or_a_refusal(noise: bytes, start: bytes) -> None:
    """Whatever a client sends, nothing but RequestError comes of it, with a status that there is an answer for."""
    try:
        head = new_parser().parse(start + noise)
    except RequestError as error:
        said = error.status in {400, 414, 431, 501, 505} and error.detail.isprintable()
    else:
        said = bool(head.method and head.target)
    assert said
