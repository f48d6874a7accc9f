"""
One request and its response, from the client's head to the last byte back.

The recipe: judge the request → have a token → have a connection → send the head with the bearer line → pass the body on
as it comes → pass interim responses on → pass the final head on → pass its body on → give the connection back. Each step
is a method below, in this order. The client side and the upstream side run at the same time; whichever side cannot take
bytes stops the other from being read, so at most a read's worth is held in either direction.

What ends badly ends in one of two ways: while nothing of a final response is sent, `_fail` answers with a problem of the
proxy's own; after that, `_cut` breaks the client's connection, so that a broken answer cannot look whole.
"""

from __future__ import annotations

import asyncio
import select
import ssl
from typing import TYPE_CHECKING, Final, Protocol

from switch_proxy.core.errors import RequestError, ResponseError, TokenUnavailableError, UpstreamConnectError
from switch_proxy.core.exchange_record import ExchangeRecord
from switch_proxy.core.http.chunked import ChunkedDecoder, ChunkSyntaxError, encode_chunk, last_chunk
from switch_proxy.core.http.grammar import END_BYTES
from switch_proxy.core.http.problems import Problem, render_problem
from switch_proxy.core.http.replay import may_repeat
from switch_proxy.core.http.request import count_down
from switch_proxy.core.http.response import NO_BODY, field_values, find_response_head_fault
from switch_proxy.core.http.target import upstream_target
from switch_proxy.core.http.www_authenticate import is_about_token, wants_more_scope
from switch_proxy.http1.connector import describe_tls_error
from switch_proxy.http1.pool import PoolExhaustedError
from switch_proxy.http1.response_buffer import HeldAnswer
from switch_proxy.http1.tunnel import Tunnel

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from switch_proxy.core.http.request import RequestHead
    from switch_proxy.core.http.response import ResponseHead
    from switch_proxy.core.tokens import AccessToken
    from switch_proxy.http1.context import RouteContext
    from switch_proxy.http1.upstream_connection import UpstreamConnection

_LONGEST_HELD_ANSWER: Final = 65536
"""Bytes of a 401 that are held back while another token is fetched; a longer one passes at once."""

_SWITCHING_PROTOCOLS: Final = 101
_CONTINUE: Final = 100
_FINAL: Final = 200
_UNAUTHORIZED: Final = 401
_FORBIDDEN: Final = 403
_REFUSALS: Final = frozenset({_UNAUTHORIZED, _FORBIDDEN})
_NO_RESPONSE: Final = 0


class Client(Protocol):
    """The client connection, as far as an exchange uses it."""

    @property
    def is_write_paused(self) -> bool:
        """Say whether the client takes no bytes for now."""

    def write(self, data: bytes) -> None:
        """Send bytes to the client."""

    def write_eof(self) -> None:
        """Say that no more bytes will be sent to the client."""

    def pause_reading(self) -> None:
        """Stop taking bytes from the client."""

    def resume_reading(self) -> None:
        """Take bytes from the client again."""

    def write_buffer_size(self) -> int:
        """Return how many bytes wait to be sent to the client."""

    def begin_tunnel(self, tunnel: Tunnel) -> None:
        """Hand the connection over to a tunnel, for good."""

    def exchange_ended(self, *, is_reusable: bool) -> None:
        """Go on to the next request, or close in order."""

    def break_off(self, *, hard: bool) -> None:
        """Close in the middle of a message; `hard` resets the connection, where a plain end would look complete."""


class Exchange:
    """One exchange of a client connection. The client tells it of its side, the upstream connection of the other."""

    __slots__ = (
        "_client",
        "_client_buffer_seen",
        "_context",
        "_continued",
        "_failure",
        "_generation",
        "_has_had_interim",
        "_has_replayed",
        "_head",
        "_held",
        "_is_over",
        "_kept_body",
        "_method",
        "_moved_at",
        "_outgoing_chunked",
        "_request_bytes",
        "_request_decoder",
        "_request_id",
        "_request_left",
        "_response_bytes",
        "_response_decoder",
        "_response_head",
        "_response_left",
        "_response_partial",
        "_sent_at",
        "_started_at",
        "_started_at_wall",
        "_status",
        "_target",
        "_task",
        "_unsent",
        "_upstream",
        "_upstream_duration",
        "_wants_new_connection",
        "_will_close",
        "is_request_complete",
    )

    def __init__(self, context: RouteContext, client: Client, head: RequestHead, now: float) -> None:
        meaning = head.meaning
        self._context = context
        self._client = client
        self._head = head
        self._method = head.method
        self._target = b""
        self._request_id = head.request_id or context.new_request_id()
        self._started_at_wall = context.wall()
        self._started_at = self._sent_at = self._moved_at = now

        self._request_decoder = ChunkedDecoder(dropped=meaning.dropped) if meaning.is_chunked else None
        self._request_left = left = meaning.content_length
        self.is_request_complete = left <= 0 and not meaning.is_chunked
        self._request_bytes = 0
        self._unsent: list[bytes] = []
        self._kept_body: bytes | None = b""
        self._continued = False
        self._has_had_interim = False

        self._task: asyncio.Task[None] | None = None
        self._wants_new_connection = False
        self._generation = 0
        self._has_replayed = False
        self._held: HeldAnswer | None = None
        self._upstream: UpstreamConnection | None = None

        self._status = _NO_RESPONSE
        self._response_partial = b""
        self._response_head: ResponseHead | None = None
        self._response_decoder: ChunkedDecoder | None = None
        self._response_left = 0
        self._outgoing_chunked = False
        self._response_bytes = 0
        self._upstream_duration: float | None = None
        self._will_close = False
        self._client_buffer_seen = 0
        self._failure: str | None = None
        self._is_over = False

    # The request is judged…

    def start(self, body: bytes) -> bytes:
        """
        Begin, with the bytes that came after the head; return those that belong to the next request.

        Raises RequestError where the request is not to be forwarded at all.
        """
        method = self._method
        context = self._context
        if method in _LOCAL_METHODS and self._answer_locally():
            return body
        self._target = upstream_target(self._head.target, method=method, base_path=context.base_path)
        rest = b""
        outgoing = b""
        if self.is_request_complete:
            rest = body
        elif body:
            outgoing, rest = self._take_request_body(body)

        # The quick way, which needs no task: a fresh token, and an idle connection.
        token = context.tokens.peek()
        if token is not None:
            upstream = context.pool.take(self._moved_at)
            if upstream is not None:
                self._send(upstream, token, outgoing)
                return rest
        if outgoing:
            self._unsent.append(outgoing)
        if not self.is_request_complete:
            self._client.pause_reading()
        self._run(self._find_way())
        return rest

    def _answer_locally(self) -> bool:
        """Answer what is not the upstream's to answer: CONNECT, TRACE, and what Max-Forwards ends here."""
        method = self._method
        if method == b"CONNECT":
            # What follows would be the tunnel's bytes, not a request.
            self.is_request_complete = False
            self._fail(Problem.METHOD_NOT_ALLOWED, "CONNECT asks for a tunnel, and this proxy serves one API only")
            return True
        if method == b"TRACE":
            # Its response would hold the head of the request, with the token in it (RFC 9110 §9.3.8).
            self._fail(Problem.METHOD_NOT_ALLOWED, "TRACE is refused: its response would show the access token")
            return True
        if self._head.meaning.max_forwards == 0:
            self._answer_as_final_recipient()
            return True
        return False

    def _answer_as_final_recipient(self) -> None:
        """Answer OPTIONS whose Max-Forwards is used up (RFC 9110 §7.6.2)."""
        closes = not self.is_request_complete or not self._head.is_persistent
        self._status = 200
        self._client.write(
            b"".join(
                (
                    b"HTTP/1.1 200 OK\r\n",
                    b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\nContent-Length: 0\r\n",
                    b"Date: " + self._context.date() + b"\r\n",
                    self._connection_line(closes=closes),
                    b"\r\n",
                )
            )
        )
        self._end(is_reusable=not closes)

    def _connection_line(self, *, closes: bool) -> bytes:
        if closes:
            return b"Connection: close\r\n"
        # HTTP/1.0 clients need to be told that the connection stays (RFC 9112 §9.3).
        return b"" if self._head.minor else b"Connection: keep-alive\r\n"

    # …gets a token and a connection…

    def _run(self, steps: Coroutine[None, None, None]) -> None:
        self._task = asyncio.get_running_loop().create_task(steps)
        self._task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        if self._task is not task:
            # A repetition has begun since, or the exchange is over.
            return
        self._task = None
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._fail(Problem.INTERNAL, f"an unexpected {type(error).__name__} while the request was prepared")
            # Not to be lost: the loop's exception handler logs it with its traceback.
            asyncio.get_running_loop().call_exception_handler(
                {"message": "an exchange failed unexpectedly", "exception": error}
            )

    async def _find_way(self) -> None:
        """Wait for what is not there at once: a token, a free place in the pool, a new connection."""
        try:
            token, upstream = await self._obtain_token_and_connection()
        except TokenUnavailableError as error:
            self._fail(Problem.TOKEN_UNAVAILABLE, str(error), retry_after=error.retry_after)
        except PoolExhaustedError as error:
            self._fail(Problem.UPSTREAM_BUSY, str(error))
        except UpstreamConnectError as error:
            self._fail(error.problem, error.detail)
        else:
            if self._is_over:
                self._context.pool.release(upstream, self._context.now(), None)
                return
            unsent = b"".join(self._unsent)
            self._unsent.clear()
            self._sent_at = self._moved_at = self._context.now()
            self._send(upstream, token, unsent)
            if not self._is_over and not self.is_request_complete and not upstream.is_write_paused:
                self._client.resume_reading()

    async def _obtain_token_and_connection(self) -> tuple[AccessToken, UpstreamConnection]:
        context = self._context
        wait = context.route.wait_for_token
        # A second time only where the token has run out while the connection was opened.
        for _ in range(2):
            begun_at = self._context.now()
            if context.tokens.peek() is None:
                await context.tokens.acquire(wait)
            wait = max(0.0, wait - (self._context.now() - begun_at))
            upstream = await self._find_connection()
            token = context.tokens.peek()
            if token is not None:
                return token, upstream
            context.pool.release(upstream, self._context.now(), None)
        raise TokenUnavailableError(
            credential=context.route.credential,
            reason="the access token expired before the request could be sent",
            retry_after=1.0,
        )

    async def _find_connection(self) -> UpstreamConnection:
        context = self._context
        while True:
            # After a stale connection: the other idle ones may be as stale as it was.
            upstream = None if self._wants_new_connection else context.pool.take(self._context.now())
            if upstream is None:
                upstream = await context.pool.acquire()
            if not upstream.is_closed:
                return upstream

    # …is sent…

    def _send(self, upstream: UpstreamConnection, token: AccessToken, body: bytes) -> None:
        """Send the head, with the bearer line, and what there is of the body, in one piece."""
        context = self._context
        head = self._head
        self._upstream = upstream
        self._generation = token.generation
        upstream.user = self
        upstream.request_count += 1
        upstream.transport.write(
            b"".join(
                (
                    self._method,
                    b" ",
                    self._target,
                    context.host_line,
                    head.forwarded if self._method not in _LOCAL_METHODS else self._counted_down(),
                    b"" if head.request_id else b"X-Request-Id: " + self._request_id + b"\r\n",
                    token.authorization_line,
                    context.via_lines[head.minor],
                    b"\r\n",
                    body,
                )
            )
        )

    def _counted_down(self) -> bytes:
        # For OPTIONS; other methods may ignore Max-Forwards, and it passes as it came (RFC 9110 §7.6.2).
        limit = self._head.meaning.max_forwards
        return self._head.forwarded if limit is None else count_down(self._head.forwarded, limit)

    def _take_request_body(self, data: bytes) -> tuple[bytes, bytes]:
        """Return what `data` means for the upstream, framed, and the bytes behind the body. Raises RequestError."""
        if self._request_decoder is not None:
            outgoing, rest = self._take_request_chunks(self._request_decoder, data)
        else:
            left = self._request_left
            if len(data) <= left:
                outgoing, rest = data, b""
            else:
                outgoing, rest = data[:left], data[left:]
            self._request_left = left = left - len(outgoing)
            self._request_bytes += len(outgoing)
            self.is_request_complete = left == 0
        kept = self._kept_body
        if kept is not None:
            self._kept_body = kept + outgoing if len(kept) + len(outgoing) <= self._context.kept_body else None
        return outgoing, rest

    def _take_request_chunks(self, decoder: ChunkedDecoder, data: bytes) -> tuple[bytes, bytes]:
        try:
            pieces = decoder.feed(data)
        except ChunkSyntaxError as error:
            raise RequestError(400, f"in the chunked body, {error} (RFC 9112 §7.1)") from None
        outgoing = b""
        if pieces:
            self._request_bytes += sum(map(len, pieces))
            outgoing = encode_chunk(pieces)
        if decoder.is_complete:
            self.is_request_complete = True
            outgoing += last_chunk(decoder.trailers)
        return outgoing, decoder.rest

    def on_client_data(self, data: bytes) -> bytes:
        """Pass request body on as it comes; return the bytes that belong to the next request."""
        try:
            outgoing, rest = self._take_request_body(data)
        except RequestError as error:
            self.refuse(error)
            return b""
        self._moved_at = self._context.now()
        if self._upstream is None:
            # Some bytes were under way when reading was paused.
            self._unsent.append(outgoing)
        elif outgoing and self._response_head is None and (self._unsent or _has_something_to_read(self._upstream)):
            self._hold_back(outgoing)
        elif outgoing:
            self._upstream.transport.write(outgoing)
        if self._is_over:
            return b""
        return rest

    def _hold_back(self, outgoing: bytes) -> None:
        """
        Keep bytes of the body until what has come from the upstream is read.

        It may have refused the body and gone. Writing then fails, and with it the reading of the answer that says why,
        though a sender of a body is to watch for one (RFC 9112 §9.5).
        """
        self._unsent.append(outgoing)
        self._client.pause_reading()
        loop = asyncio.get_running_loop()
        # Two turns: the sockets are read between them.
        loop.call_soon(loop.call_soon, self._send_held_back)

    def _send_held_back(self) -> None:
        upstream = self._upstream
        if upstream is not None and self._unsent:
            upstream.transport.write(b"".join(self._unsent))
            self._unsent.clear()
            if not upstream.is_write_paused:
                self._client.resume_reading()

    def on_client_full(self) -> None:
        """Stop reading the response: the client does not keep up."""
        if self._upstream is not None:
            self._upstream.transport.pause_reading()

    def on_client_drained(self) -> None:
        """Read the response again."""
        self._moved_at = self._context.now()
        if self._upstream is not None:
            self._upstream.transport.resume_reading()

    def on_upstream_full(self) -> None:
        """Stop reading the request: the upstream does not keep up."""
        if not self.is_request_complete:
            self._client.pause_reading()

    def on_upstream_drained(self) -> None:
        """Read the request again."""
        self._moved_at = self._context.now()
        self._client.resume_reading()

    def on_client_lost(self) -> None:
        """Give up: the client is gone, and so the upstream need not go on."""
        if not self._is_over:
            self._failure = Problem.CLIENT_GONE.value.name
            if self._held is not None:
                self._status = _NO_RESPONSE
            self._end(is_reusable=False)

    # …and is answered: interim responses first, then the final head…

    def on_upstream_data(self, data: bytes) -> None:
        """Take bytes of the response."""
        self._moved_at = self._context.now()
        if self._response_head is not None:
            self._take_response_body(data)
            return
        seen = len(self._response_partial)
        if seen:
            data = self._response_partial + data
        try:
            while True:
                head_end = data.find(b"\r\n\r\n", max(0, seen - END_BYTES))
                limit = self._context.route.limits.head
                if head_end < 0 or head_end > limit:
                    fault = find_response_head_fault(data, max_head=limit, seen=seen)
                    if fault is not None:
                        raise fault
                    self._response_partial = data
                    return
                head = self._context.response_parser.parse(data[:head_end])
                data = data[head_end + 4 :]
                seen = 0
                if head.status >= _FINAL:
                    self._begin_response(head, data)
                    return
                if head.status == _SWITCHING_PROTOCOLS:
                    self._switch_protocols(head, data)
                    return
                self._pass_interim(head)
                self._response_partial = b""
                if not data:
                    return
        except ResponseError as error:
            self._fail(Problem.UPSTREAM_MALFORMED, error.detail)

    def _pass_interim(self, head: ResponseHead) -> None:
        """Pass a 1xx response on, which an HTTP/1.0 client must not get (RFC 9110 §15.2)."""
        self._has_had_interim = True
        if head.status == _CONTINUE:
            self._continued = True
        if self._head.minor:
            self._client.write(head.passed + b"\r\n")

    def _switch_protocols(self, head: ResponseHead, data: bytes) -> None:
        """Turn the exchange into a tunnel, where that was asked for (RFC 9110 §7.8)."""
        asked = self._head.meaning.upgrade
        upstream = self._upstream
        if asked is None or upstream is None or not self.is_request_complete:
            raise ResponseError("the upstream switched protocols without having been asked to (RFC 9110 §7.8)")
        self._status = head.status
        self._upstream_duration = self._moved_at - self._sent_at
        upgrade = b"Upgrade: " + (head.meaning.upgrade or asked) + b"\r\n"
        self._client.write(head.passed + b"Connection: Upgrade\r\n" + upgrade + b"\r\n")
        tunnel = Tunnel(
            client=self._client,
            upstream=upstream,
            idle_timeout=self._context.route.timeouts.idle,
            now=self._context.now,
        )
        tunnel.on_closed = self._tunnel_closed
        upstream.user = tunnel
        self._client.begin_tunnel(tunnel)
        if data:
            tunnel.on_upstream_data(data)

    def _tunnel_closed(self, tunnel: Tunnel) -> None:
        self._request_bytes += tunnel.bytes_up
        self._response_bytes += tunnel.bytes_down
        self._upstream = None
        self._end(is_reusable=False)

    def _begin_response(self, head: ResponseHead, body: bytes) -> None:
        """Send the final response's head on, and whatever of its body came with it, in one piece."""
        request = self._head
        framing = head.framing if self._method != b"HEAD" else NO_BODY
        length = framing.length
        self._response_head = head
        self._response_partial = b""
        self._status = head.status
        if head.status in _REFUSALS:
            self._consider_refusal(head)
        self._upstream_duration = self._moved_at - self._sent_at
        framing_line = b""
        if length < 0:
            if request.minor:
                self._outgoing_chunked = True
                framing_line = b"Transfer-Encoding: chunked\r\n"
            if framing.is_chunked:
                self._response_decoder = ChunkedDecoder(dropped=head.meaning.dropped)
        self._response_left = length
        # A body that the client still sends may never end, so an early answer ends the connection (RFC 9112 §9.6).
        self._will_close = will_close = (
            not self.is_request_complete
            or not request.is_persistent
            or self._context.is_leaving
            or (length < 0 and not self._outgoing_chunked)
        )
        pieces = (
            head.passed,
            framing_line,
            b"" if head.has_date else b"Date: " + self._context.date() + b"\r\n",
            self._connection_line(closes=will_close) if will_close or not request.minor else b"",
            b"\r\n",
        )
        if len(body) == length:
            # The whole answer came in one read and leaves in one write.
            self._response_bytes = length
            self._client.write(b"".join((*pieces, body)))
            self._complete(is_clean=True)
            return
        self._client.write(b"".join(pieces))
        if body or length == 0:
            self._take_response_body(body)

    # (A 401 may be about the token: then there is one more try with another one…

    def _consider_refusal(self, head: ResponseHead) -> None:
        """Have another token fetched where the API has refused this one, and hold its answer back where that helps."""
        challenges = field_values(head.passed, b"www-authenticate")
        context = self._context
        if head.status == _FORBIDDEN:
            context.scope_refusals += wants_more_scope(challenges)
            return
        if self._has_replayed or not is_about_token(challenges):
            return
        context.token_refusals += 1
        context.tokens.reject(self._generation)
        if self.is_request_complete and self._kept_body is not None and not self._unsent:
            self._client = self._held = HeldAnswer(
                self._client, limit=_LONGEST_HELD_ANSWER, on_overflow=self._let_go_of_answer
            )

    def _let_go_of_answer(self) -> None:
        """Send the client what was held back: it gets the 401 as it came."""
        held, self._held = self._held, None
        if held is not None:
            self._client = held.client
            held.deliver()

    def _seek_newer_token(self) -> None:
        """Repeat the request, now that the whole 401 is here, as soon as there is a token newer than the refused one."""
        token = self._context.tokens.peek()
        if token is not None and token.generation > self._generation:
            self._replay()
        else:
            self._run(self._await_newer_token())

    async def _await_newer_token(self) -> None:
        try:
            await self._context.tokens.acquire(self._context.route.wait_for_token, newer_than=self._generation)
        except TokenUnavailableError:
            self._let_go_of_answer()
            self._end(is_reusable=not self._will_close)
        else:
            self._replay()

    def _replay(self) -> None:
        """Send the request once more, as if no answer had come; the next one passes, whatever it is."""
        if self._held is not None:
            self._client = self._held.client
            self._held = None
        self._has_replayed = True
        self._context.replays += 1
        self._status = _NO_RESPONSE
        self._response_head = self._response_decoder = None
        self._response_left = self._response_bytes = 0
        self._upstream_duration = None
        self._outgoing_chunked = self._will_close = False
        self._unsent = [self._kept_body] if self._kept_body else []
        self._run(self._find_way())

    # …) then the body…

    def _take_response_body(self, data: bytes) -> None:
        decoder = self._response_decoder
        if decoder is not None:
            self._take_response_chunks(decoder, data)
            return
        left = self._response_left
        if left < 0:
            self._response_bytes += len(data)
            self._client.write(encode_chunk([data]) if self._outgoing_chunked else data)
            return
        extra = len(data) - left
        if extra > 0:
            # More than was announced: what is announced is passed, the connection cannot be trusted any more.
            data = data[:left]
        self._response_bytes += len(data)
        self._response_left = left - len(data)
        if data:
            self._client.write(data)
        if extra >= 0:
            self._complete(is_clean=extra == 0)

    def _take_response_chunks(self, decoder: ChunkedDecoder, data: bytes) -> None:
        try:
            pieces = decoder.feed(data)
        except ChunkSyntaxError:
            self._cut(Problem.UPSTREAM_MALFORMED)
            return
        outgoing = b""
        if pieces:
            self._response_bytes += sum(map(len, pieces))
            outgoing = encode_chunk(pieces) if self._outgoing_chunked else b"".join(pieces)
        if decoder.is_complete:
            if self._outgoing_chunked:
                outgoing += last_chunk(decoder.trailers)
            if outgoing:
                self._client.write(outgoing)
            self._complete(is_clean=not decoder.rest)
        elif outgoing:
            self._client.write(outgoing)

    # …until one of the ends.

    def _complete(self, *, is_clean: bool) -> None:
        """End well: the response is whole. The upstream connection is kept where both sides left it clean."""
        upstream = self._upstream
        head = self._response_head
        if upstream is not None and head is not None:
            self._upstream = None
            if is_clean and self.is_request_complete and not self._unsent and head.is_persistent:
                if upstream.request_count == 1:
                    self._context.connector.remember_session(upstream)
                if self._client.is_write_paused:
                    upstream.transport.resume_reading()
                self._context.pool.release(upstream, self._moved_at, _keep_alive(head))
            else:
                upstream.close()
        if self._held is not None:
            self._seek_newer_token()
            return
        self._end(is_reusable=not self._will_close)

    def on_upstream_eof(self) -> None:
        """End a body that lasts until the connection closes; anything else is cut short by it."""
        head = self._response_head
        if head is not None and self._response_decoder is None and self._response_left < 0:
            if self._outgoing_chunked:
                self._client.write(last_chunk(b""))
            self._complete(is_clean=False)
            return
        self.on_upstream_lost(None)

    def on_upstream_lost(self, error: Exception | None) -> None:
        """Repeat the request where that is safe; otherwise tell the client, or cut what it has begun to get."""
        if self._is_over:
            return
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.close()
        if self._response_head is not None:
            self._cut(Problem.UPSTREAM_INCOMPLETE)
            return
        is_stale = (
            upstream is not None
            and upstream.request_count > 1
            and not self._response_partial
            and not self._has_had_interim
        )
        if is_stale and not self._wants_new_connection and self._may_repeat():
            # The pooled connection had been closed by the other side before the request reached it.
            self._wants_new_connection = True
            self._context.retries += 1
            self._unsent = [self._kept_body] if self._kept_body else []
            self._run(self._find_way())
            return
        if isinstance(error, ssl.SSLError):
            # At TLS 1.3 an upstream refuses our certificate only after our side of the handshake is over.
            self._fail(Problem.UPSTREAM_TLS, f"the upstream ended the TLS session: {describe_tls_error(error)}")
        elif self._response_partial:
            self._fail(Problem.UPSTREAM_CLOSED, "the upstream closed the connection in the middle of the answer's head")
        else:
            how = "reset" if isinstance(error, ConnectionError) else "closed"
            self._fail(Problem.UPSTREAM_CLOSED, f"the upstream {how} the connection before it answered")

    def _may_repeat(self) -> bool:
        is_whole = self.is_request_complete and self._kept_body is not None
        return may_repeat(method=self._method, body_is_whole=is_whole)

    def refuse(self, error: RequestError) -> None:
        """Answer a request that breaks the rules; its framing is in doubt, so the connection goes with it."""
        self.is_request_complete = False
        self._fail(Problem.REQUEST_MALFORMED, error.detail, status=error.status)

    def _fail(
        self, problem: Problem, detail: str, *, status: int | None = None, retry_after: float | None = None
    ) -> None:
        """Answer with a problem of the proxy's own, or cut where an answer has begun."""
        if self._is_over:
            return
        if self._response_head is not None:
            self._cut(problem)
            return
        context = self._context
        closes = not self.is_request_complete or not self._head.is_persistent or context.is_leaving
        self._status = status or problem.value.status
        self._failure = problem.value.name
        self._client.write(
            render_problem(
                problem,
                detail=detail,
                proxy_name=context.proxy_name,
                next_hop=context.next_hop,
                request_id=self._request_id.decode("utf-8", "replace"),
                date=context.date(),
                status=status,
                retry_after=retry_after,
                is_head=self._method == b"HEAD",
                closes=closes,
                keeps_alive=not self._head.minor,
            )
        )
        self._end(is_reusable=not closes)

    def _cut(self, problem: Problem) -> None:
        """Break the client's connection: the response that it has begun to get will not be whole."""
        self._failure = problem.value.name
        self._let_go_of_answer()
        # A body that ends with the connection would look complete after an orderly close.
        is_close_delimited = self._response_left < 0 and not self._outgoing_chunked
        self._finish()
        self._client.break_off(hard=is_close_delimited)

    def _end(self, *, is_reusable: bool) -> None:
        self._finish()
        self._client.exchange_ended(is_reusable=is_reusable)

    def _finish(self) -> None:
        """Let go of everything that is still held, and report, once."""
        self._is_over = True
        if self._task is not None:
            self._task.cancel()
            self._task = None
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.close()
        self._context.observer.exchange_finished(
            ExchangeRecord(
                self._context.route.name,
                self._method,
                self._head.target,
                self._request_id,
                self._status,
                self._request_bytes,
                self._response_bytes,
                self._context.now() - self._started_at,
                self._upstream_duration,
                self._failure,
                self._started_at_wall,
            )
        )

    def check_time(self, now: float) -> None:
        """End what has stood still for longer than it may; `now` by the context's clock, in seconds."""
        if self._upstream is None:
            # The token, the place in the pool and the connection have time limits of their own.
            return
        timeouts = self._context.route.timeouts
        still_for = now - self._moved_at
        if self._response_head is None:
            waits_for_upstream = self.is_request_complete or (
                self._head.meaning.expects_continue and not self._continued and not self._request_bytes
            )
            if waits_for_upstream:
                if still_for > timeouts.response_head:
                    self._fail(
                        Problem.UPSTREAM_TIMEOUT,
                        f"the upstream sent no answer within {timeouts.response_head:g} seconds",
                    )
            elif still_for > timeouts.idle:
                if self._upstream.is_write_paused:
                    self._fail(Problem.UPSTREAM_STALLED, f"the upstream took no byte for {timeouts.idle:g} seconds")
                else:
                    self._fail(
                        Problem.REQUEST_TIMEOUT, f"no byte of the request's body came for {timeouts.idle:g} seconds"
                    )
            return
        if self._client.is_write_paused:
            # A slow reader is not a stalled one: what counts is whether its buffer shrinks.
            waiting = self._client.write_buffer_size()
            if waiting != self._client_buffer_seen:
                self._client_buffer_seen = waiting
                self._moved_at = now
                return
        if still_for > timeouts.idle:
            self._cut(Problem.CLIENT_STALLED if self._client.is_write_paused else Problem.UPSTREAM_TIMEOUT)

    def end_at_once(self) -> None:
        """End because the proxy stops and the time to finish is over."""
        if self._held is not None and self._upstream is None:
            # Its answer is here.
            self._let_go_of_answer()
            self._end(is_reusable=False)
        elif not self._is_over:
            self._fail(Problem.SHUTTING_DOWN, "the proxy was told to stop before the answer came")


def _has_something_to_read(upstream: UpstreamConnection) -> bool:
    """Tell whether the upstream has sent something, or has ended, that the event loop has not read yet."""
    raw_socket = upstream.transport.get_extra_info("socket")
    if raw_socket is None or raw_socket.fileno() < 0:
        return False
    poller = select.poll()
    poller.register(raw_socket, select.POLLIN)
    return bool(poller.poll(0))


_LOCAL_METHODS: Final = frozenset({b"CONNECT", b"TRACE", b"OPTIONS"})
"""Methods that may have to be answered here; the rest need not be looked at twice."""


def _keep_alive(head: ResponseHead) -> float | None:
    """Return how long the upstream will keep the connection, in seconds, less one so as to be the first to leave."""
    timeout = head.meaning.keep_alive_timeout
    return None if timeout is None else timeout - 1.0
