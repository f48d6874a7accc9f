"""
Request heads: parsed strictly, judged once, and made ready to be sent on.

A head is the request line and the field section. The section is judged apart from the line, because an app sends the
same lines again and again. What was found out is remembered at three depths (`RequestParser`): under the bytes of the
whole section, which costs a repeated one a single look-up; under those of the lines that mean something to a proxy,
if another line differs from request to request (a trace id, say); and under each single line.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Final, Protocol

from switch_proxy.core.errors import RequestError
from switch_proxy.core.http.fields import FieldSyntaxError, LineMemory, list_members, parse_field_lines
from switch_proxy.core.http.grammar import (
    CONTENT_LENGTH,
    END_BYTES,
    HOST,
    HTTP_VERSION,
    IP_LITERAL,
    ORIGIN_TARGET,
    REQUEST_ID_VALUE,
    REQUEST_TARGET,
    TOKEN,
    has_bare_line_feed,
)
from switch_proxy.core.http.header_rules import (
    OVERRIDES,
    REQUEST_ID,
    SIGNIFICANT_IN_REQUESTS,
    added_to_request,
    dropped_from_request,
)
from switch_proxy.core.http.other_protocols import LONGEST_OPENING, find_other_protocol_of_client
from switch_proxy.core.http.target import read_absolute_form
from switch_proxy.core.upgrade_protocols import offers_that_pass

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from switch_proxy.core.http.fields import FieldLine
    from switch_proxy.core.http.problems import Reject

_REMEMBERED: Final = 256
"""As many different sections are remembered, at each depth; a memory that is full is emptied, which costs little."""

_LONGEST_REMEMBERED: Final = 2048
"""Bytes; longer sections are judged anew each time, so that a memory stays below a megabyte."""


@dataclass(slots=True)
class RequestMeaning:
    """What the significant lines of a field section say. Never changed once made (not frozen: that costs more)."""

    host: bytes | None
    """The host that is asked for, in lower case, without port, brackets and a dot at its end; None if there is none."""
    content_length: int
    """Bytes; -1 if the section has no Content-Length."""
    is_chunked: bool
    wants_close: bool
    wants_keep_alive: bool
    expects_continue: bool
    upgrade: bytes | None
    """The protocols that the client offers to switch to, as far as they pass (RFC 9110 §7.8); None if none does."""
    max_forwards: int | None
    dropped: frozenset[bytes]
    """The names of the lines that do not pass."""
    added: bytes
    """Lines that are written anew at the end, each with its CRLF: framing, and what is agreed for the next hop."""
    authorization_line: bytes
    """The client's own Authorization, with its CRLF; empty if it has none, or several."""
    via: bytes
    """The values of Via, in lower case; empty if there are none."""
    override: bytes | None
    """The name of a line by which some servers take another method or path; None if there is none."""
    refusal_on_loopback: Reject | None
    """What becomes of the request if it came in over loopback: a web page may have made it. None if it may go on."""


@dataclass(slots=True)
class RequestFields:
    """A field section: what it means, and the lines to send on. Never changed once made."""

    meaning: RequestMeaning
    is_persistent: bool
    request_id: bytes | None
    """The client's X-Request-Id, if it has one that passes and that a log can take; another is left out of `forwarded`."""
    forwarded: bytes
    """The lines to send on, in the order and spelling received, each with its CRLF; framing included."""


@dataclass(slots=True)
class RequestHead:
    """One request head. `minor` is 1 for HTTP/1.1 and later, 0 for HTTP/1.0."""

    method: bytes
    target: bytes
    minor: int
    meaning: RequestMeaning
    request_id: bytes | None
    forwarded: bytes
    is_persistent: bool
    """Whether the client lets the connection stay open after this exchange (RFC 9112 §9.3)."""


class Guard(Protocol):
    """Judges what a web page in a browser on this machine may have sent; that of core/policy/browsers.py."""

    def judge(
        self, *, host: bytes | None, authority: bytes, origins: Sequence[bytes], sites: Sequence[bytes]
    ) -> Reject | None:
        """Return the refusal of a request, None if it may go on; the values of Host, Origin and Sec-Fetch-Site."""


class RequestParser:
    """
    Turns request heads into values; remembers the lines it has judged. One for each listener.

    `upgrades`: the protocols in lower case that a client may offer to switch to. `guard`: judges what a web page may have
    sent, once for all requests with the same lines. `own_hosts`: what a whole URL as the target may name beside loopback.
    """

    def __init__(
        self,
        *,
        max_request_line: int,
        max_field_lines: int,
        upgrades: Collection[str] = (),
        guard: Guard | None = None,
        own_hosts: Collection[str] = (),
    ) -> None:
        self._max_request_line = max_request_line
        self._max_field_lines = max_field_lines
        self._upgrades = frozenset(protocol.encode("ascii") for protocol in upgrades)
        self._guard = guard
        self._own_hosts = frozenset(host.encode("ascii") for host in own_hosts)
        self.own_port: int | None = None
        """The port that the listener is bound to, once that is known."""
        self._lines = LineMemory(significant=SIGNIFICANT_IN_REQUESTS, noted=REQUEST_ID)
        # By minor version, which has a say in what a section means.
        self._sections: tuple[dict[bytes, RequestFields], dict[bytes, RequestFields]] = ({}, {})
        self._meanings: tuple[dict[bytes, RequestMeaning], dict[bytes, RequestMeaning]] = ({}, {})

    def parse(self, head: bytes) -> RequestHead:
        """
        Parse a head that ends before its empty line (RFC 9112 §2.1).

        Raises RequestError with the status to refuse it with.
        """
        line, _, section = head.partition(b"\r\n")
        if len(line) > self._max_request_line:
            raise _judge_long_line(line, self._max_request_line)
        parts = line.split(b" ")
        if len(parts) != 3:  # noqa: PLR2004 - method, target, version
            raise _not_a_request_line()
        method, target, version = parts
        minor = 1 if version == b"HTTP/1.1" else _minor_version(version)
        fields = self._sections[minor].get(section)
        if fields is None:
            fields = self._judge(section, minor)
        if method not in _COMMON_METHODS:
            _check_method(method)
        meaning = fields.meaning
        if ORIGIN_TARGET.fullmatch(target) is None:
            target, meaning = self._read_other_form(target, method, meaning)
        return RequestHead(method, target, minor, meaning, fields.request_id, fields.forwarded, fields.is_persistent)

    def _read_other_form(self, target: bytes, method: bytes, meaning: RequestMeaning) -> tuple[bytes, RequestMeaning]:
        """Read a target that is no path. A whole URL counts for the path in it, and its host in place of Host (RFC 9112 §3.2.2)."""
        if REQUEST_TARGET.fullmatch(target) is None:
            raise RequestError(400, "the request target has a character that targets cannot have (RFC 9112 §3.2)")
        read = read_absolute_form(target, method=method, own_hosts=self._own_hosts, own_port=self.own_port)
        if read is None:
            return target, meaning
        target, host = read
        return target, replace(meaning, host=host)

    def _judge(self, section: bytes, minor: int) -> RequestFields:
        # Before the lines are looked at: a large head may have thousands.
        if section.count(b"\r\n") >= self._max_field_lines:
            raise RequestError(431, f"the request has more than {self._max_field_lines} header lines")
        try:
            split = self._lines.split(section)
        except FieldSyntaxError as error:
            raise RequestError(400, str(error)) from None
        meanings = self._meanings[minor]
        key = b"\r\n".join(split.significant)
        meaning = meanings.get(key)
        if meaning is None:
            meaning = judge_request(parse_field_lines(key), minor=minor, upgrades=self._upgrades, guard=self._guard)
            if len(key) <= _LONGEST_REMEMBERED:
                if len(meanings) >= _REMEMBERED:
                    meanings.clear()
                meanings[key] = meaning
        request_id = None
        if split.noted is not None and REQUEST_ID not in meaning.dropped:
            request_id = split.noted.partition(b":")[2].strip(b" \t")
            if REQUEST_ID_VALUE.fullmatch(request_id) is None:
                request_id = None
        forwarded = self._lines.without(
            split, meaning.dropped if request_id or split.noted is None else meaning.dropped | {REQUEST_ID}
        )
        is_persistent = not meaning.wants_close and (minor == 1 or meaning.wants_keep_alive)
        fields = RequestFields(meaning, is_persistent, request_id, forwarded + meaning.added)
        if len(section) <= _LONGEST_REMEMBERED:
            sections = self._sections[minor]
            if len(sections) >= _REMEMBERED:
                sections.clear()
            sections[section] = fields
        return fields


_REGISTERED_METHODS: Final = frozenset(
    b"ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT CONNECT COPY DELETE GET HEAD LABEL LINK LOCK MERGE MKACTIVITY MKCALENDAR MKCOL "
    b"MKREDIRECTREF MKWORKSPACE MOVE OPTIONS ORDERPATCH PATCH POST PRI PROPFIND PROPPATCH PUT QUERY REBIND REPORT SEARCH TRACE "
    b"UNBIND UNCHECKOUT UNLINK UNLOCK UPDATE UPDATEREDIRECTREF VERSION-CONTROL".split()
)
"""IANA's registry of methods (RFC 9110 §16.1), and QUERY."""

_COMMON_METHODS: Final = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})


def _check_method(method: bytes) -> None:
    if TOKEN.fullmatch(method) is None:
        raise RequestError(400, "the method has a character that methods cannot have (RFC 9110 §9.1)")
    upper = method.upper()
    if upper == method:
        return
    if upper in _REGISTERED_METHODS:
        raise RequestError(
            501,
            f"the method {method.decode('ascii')} is not {upper.decode('ascii')}, because methods are case-sensitive: send it in "
            "upper case (RFC 9110 §9.1)",
        )
    raise RequestError(501, "the method is not in upper case, and no such method is known here (RFC 9110 §9.1)")


def _minor_version(version: bytes) -> int:
    match = HTTP_VERSION.fullmatch(version)
    if match is None:
        raise RequestError(400, "the request line does not end in an HTTP version such as HTTP/1.1 (RFC 9112 §2.3)")
    if match[1] != b"1":
        raise RequestError(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
    # A higher minor version is read as the highest one known (RFC 9110 §2.5).
    return min(int(match[2]), 1)


def _judge_long_line(line: bytes, max_request_line: int) -> RequestError:
    # A bare LF within the limit is met first where the bytes come one by one.
    if b"\n" in line[: max_request_line + 1]:
        return _bare_line_feed()
    return RequestError(414, f"the request line is longer than {max_request_line} bytes")


def _not_a_request_line() -> RequestError:
    return RequestError(400, "the request line is not 'METHOD target HTTP/1.1' (RFC 9112 §3)")


def _bare_line_feed() -> RequestError:
    return RequestError(400, "a line ends in a bare LF; lines end in CR LF (RFC 9112 §2.2)")


def find_head_fault(partial: bytes, *, max_request_line: int, max_head: int, seen: int = 0) -> RequestError | None:
    """
    Judge a head that has not ended yet: say now what no further byte can mend.

    Returns None while it may still become a good one. Limits are in bytes; the first `seen` bytes were judged before.
    """
    if seen < LONGEST_OPENING:
        other_protocol = find_other_protocol_of_client(partial)
        if other_protocol is not None:
            return other_protocol
    line_end = b""
    if seen <= max_request_line:
        line, line_end, _ = partial[: max_request_line + 2].partition(b"\r\n")
        if len(line.removesuffix(b"\r")) > max_request_line:
            return _judge_long_line(line, max_request_line)
    if has_bare_line_feed(partial, seen=seen):
        return _bare_line_feed()
    # The PROXY protocol's signature has line ends in it.
    if line_end and line != b"\x00" and line.count(b" ") != 2:  # noqa: PLR2004 - between method, target and version
        return _not_a_request_line()
    if len(partial) - END_BYTES > max_head:
        return head_too_large(max_head)
    return None


def head_too_large(max_head: int) -> RequestError:
    """Return the refusal of a head of more than `max_head` bytes (RFC 6585 §5)."""
    return RequestError(431, f"the request's head is larger than {max_head} bytes")


def judge_request(
    lines: Sequence[FieldLine], *, minor: int, upgrades: Collection[bytes], guard: Guard | None = None
) -> RequestMeaning:
    """
    Decide what a request's significant lines mean: framing, persistence, and which lines pass.

    Raises RequestError for everything that two readers could take differently (RFC 9112 §6.3, §11.2).
    """
    values: dict[bytes, list[bytes]] = {}
    for line in lines:
        values.setdefault(line.name, []).append(line.value)

    host = _host(values.get(b"host", []), minor)
    is_chunked = _is_chunked(values, minor)
    content_length = _content_length(values)
    connection = list_members(values.get(b"connection", ()))
    upgrade = None
    if minor == 1 and b"upgrade" in connection and b"upgrade" in values:
        upgrade = offers_that_pass(values[b"upgrade"], allowed=upgrades)
    # The wish for trailers can be granted: they are passed on if the framing allows.
    wants_trailers = minor == 1 and b"trailers" in list_members(values.get(b"te", ()))

    dropped = dropped_from_request(connection, minor=minor)
    return RequestMeaning(
        host=host,
        content_length=content_length,
        is_chunked=is_chunked,
        wants_close=b"close" in connection,
        wants_keep_alive=b"keep-alive" in connection,
        expects_continue=b"expect" not in dropped and _expects_continue(values, minor),
        upgrade=upgrade,
        max_forwards=None if b"max-forwards" in dropped else _max_forwards(values),
        dropped=dropped,
        added=added_to_request(is_chunked=is_chunked, wants_trailers=wants_trailers, upgrade=upgrade),
        authorization_line=b"" if b"authorization" in connection else _authorization_line(values),
        via=b",".join(values.get(b"via", ())).lower(),
        override=next((name for name in OVERRIDES if name in values), None),
        refusal_on_loopback=None
        if guard is None
        else guard.judge(
            host=host,
            authority=next(iter(values.get(b"host", ())), b""),
            origins=values.get(b"origin", ()),
            sites=values.get(b"sec-fetch-site", ()),
        ),
    )


def _host(hosts: list[bytes], minor: int) -> bytes | None:
    if not hosts:
        if minor == 1:
            raise RequestError(400, "the Host header is missing (RFC 9112 §3.2)")
        return None
    if len(hosts) > 1:
        raise RequestError(400, "the Host header is there more than once (RFC 9112 §3.2)")
    return host_of(hosts[0])


def host_of(authority: bytes) -> bytes | None:
    """
    Return the host in a value of Host: in lower case, without port, brackets and a dot at its end; None if it is empty.

    Raises RequestError (400).
    """
    match = HOST.fullmatch(authority)
    if match is None:
        raise RequestError(400, "the Host header is not a host with an optional port (RFC 9112 §3.2)")
    if match[1].startswith(b"[") and not _is_ip_literal(match[1][1:-1]):
        raise RequestError(400, "the Host header has something else than an IPv6 address in brackets (RFC 3986 §3.2.2)")
    return match[1].strip(b"[]").removesuffix(b".").lower() or None


def _is_ip_literal(text: bytes) -> bool:
    match = IP_LITERAL.fullmatch(text)
    if match is None:
        return False
    try:
        return match[1] is None or bool(IPv6Address(match[1].decode("ascii")))
    except ValueError:
        return False


def _authorization_line(values: dict[bytes, list[bytes]]) -> bytes:
    lines = values.get(b"authorization", ())
    return b"Authorization: " + lines[0] + b"\r\n" if len(lines) == 1 else b""


def _is_chunked(values: dict[bytes, list[bytes]], minor: int) -> bool:
    if b"transfer-encoding" not in values:
        return False
    if minor == 0:
        raise RequestError(400, "Transfer-Encoding does not exist in HTTP/1.0 (RFC 9112 §6.1)")
    if b"content-length" in values:
        raise RequestError(400, "Content-Length and Transfer-Encoding stand side by side (RFC 9112 §6.3)")
    # As plain as nginx, Envoy and Go want it: a list with empty members is read differently by llhttp.
    if [value.lower() for value in values[b"transfer-encoding"]] == [b"chunked"]:
        return True
    codings = list_members(values[b"transfer-encoding"])
    if len(codings) > 1 and codings[-1] == b"chunked" and b"chunked" not in codings[:-1]:
        raise RequestError(501, "no transfer coding but chunked is understood here (RFC 9112 §6.1)")
    raise RequestError(400, "Transfer-Encoding does not end in one chunked, so the body has no end (RFC 9112 §6.3)")


def _content_length(values: dict[bytes, list[bytes]]) -> int:
    lengths = values.get(b"content-length")
    if lengths is None:
        return -1
    if len(lengths) > 1 or b"," in lengths[0]:
        raise RequestError(400, "Content-Length is there more than once (RFC 9112 §6.3)")
    if CONTENT_LENGTH.fullmatch(lengths[0]) is None:
        raise RequestError(400, "Content-Length is not a number of bytes (RFC 9110 §8.6)")
    return int(lengths[0])


def _expects_continue(values: dict[bytes, list[bytes]], minor: int) -> bool:
    # An HTTP/1.0 client cannot be answered with 100, so its Expect is ignored (RFC 9110 §10.1.1).
    return minor == 1 and b"100-continue" in list_members(values.get(b"expect", ()))


def _max_forwards(values: dict[bytes, list[bytes]]) -> int | None:
    """Return the hop limit, None if there is none or it is not a number (RFC 9110 §7.6.2)."""
    limits = values.get(b"max-forwards")
    if limits is None or len(limits) != 1 or CONTENT_LENGTH.fullmatch(limits[0]) is None:
        return None
    return int(limits[0])
