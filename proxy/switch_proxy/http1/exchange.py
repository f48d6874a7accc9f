"""
One request and its response, from the client's head to the last byte back.

An exchange is in one phase at a time (`Phase`). Bytes become events in the two codecs; what is decided about a request, a
resend or a time limit is decided in `switch_proxy.core`. Client and upstream run at the same time: whichever side takes no
bytes stops the other from being read, so at most a read's worth is held in either direction.

A failure reaches the client in one of two ways. Until the client has been sent the head of a final response, `_fail` responds with a
problem of the proxy's own; after that, `_cut` breaks the client's connection, so that a broken response cannot look whole.
"""

from __future__ import annotations

import asyncio
import ssl
from functools import partial
from typing import TYPE_CHECKING, Final

from switch_proxy.core.errors import RequestError, ResponseError, TokenUnavailableError, UpstreamConnectError
from switch_proxy.core.exchange_record import ExchangeRecord
from switch_proxy.core.http.deadlines import find_overdue_request, find_overdue_response
from switch_proxy.core.http.header_rules import added_to_response, added_to_switch, count_down, hide_token
from switch_proxy.core.http.problems import Problem, Reject, render_problem
from switch_proxy.core.http.resend import may_use_new_connection, may_use_newer_token
from switch_proxy.core.http.response import field_values
from switch_proxy.core.http.www_authenticate import is_about_token, wants_more_scope
from switch_proxy.core.oauth.response import parse_retry_after
from switch_proxy.core.policy.admission import Forward, Respond, Wait
from switch_proxy.core.upgrade_protocols import is_switch_to_an_offer
from switch_proxy.http1.connector import describe_tls_error
from switch_proxy.http1.phase import RESPONSE_HAS_BEGUN, Phase
from switch_proxy.http1.pool import PoolExhaustedError
from switch_proxy.http1.request_body import RequestBody
from switch_proxy.http1.request_budget import UNCOUNTED
from switch_proxy.http1.response_buffer import ResponseBuffer
from switch_proxy.http1.tunnel import Tunnel

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from switch_proxy.core.http.request import RequestHead
    from switch_proxy.core.http.response import ResponseHead
    from switch_proxy.core.tokens import AccessToken
    from switch_proxy.http1.listener_context import ListenerContext
    from switch_proxy.http1.pacer import Pacer
    from switch_proxy.http1.peers import Client
    from switch_proxy.http1.route import Route
    from switch_proxy.http1.upstream_connection import UpstreamConnection

_LARGEST_HELD_RESPONSE: Final = 65536
"""Bytes of a 401 that are held back while another token is fetched; a larger one passes at once."""

_MOST_INTERIM_RESPONSES: Final = 1000
"""
Interim responses to one request that pass: enough for one each second that tells of the progress of a long upload. Go's client
allowed five.
"""

_INTERIM_RESPONSES_PER_TURN: Final = 25
"""Interim responses that pass before others are served: a millisecond's work."""

_SWITCHING_PROTOCOLS: Final = 101
_CONTINUE: Final = 100
_FINAL: Final = 200
_UNAUTHORIZED: Final = 401
_FORBIDDEN: Final = 403
_TOO_MANY_REQUESTS: Final = 429
_REFUSALS: Final = frozenset({_UNAUTHORIZED, _FORBIDDEN, _TOO_MANY_REQUESTS})
_DEFAULT_HOLD: Final = 1.0
"""Seconds that a paced route waits after a 429 without Retry-After."""
_LONGEST_HOLD: Final = 3600.0
"""Seconds that it waits at most, so that a mistake of the API's ends."""
_NO_RESPONSE: Final = 0


_PREPARING: Final = Phase.PREPARING
_AWAITING: Final = Phase.AWAITING
_RESPONDING: Final = Phase.RESPONDING
_HOLDING: Final = Phase.HOLDING
_RENEWING: Final = Phase.RENEWING
_TUNNEL: Final = Phase.TUNNEL
_OVER: Final = Phase.OVER


class Exchange:
    """One exchange of a client connection. The client tells it of its side, the upstream connection of the other."""

    __slots__ = (
        "_body",
        "_client",
        "_closes",
        "_context",
        "_continued",
        "_detail",
        "_failure",
        "_has_new_connection",
        "_has_newer_token",
        "_head",
        "_held",
        "_late_end",
        "_moved_at",
        "_phase",
        "_request_id",
        "_response_bytes",
        "_route",
        "_sent_at",
        "_started_at",
        "_started_at_wall",
        "_status",
        "_target",
        "_task",
        "_token",
        "_upstream",
        "_upstream_duration",
        "_waits_for_turn",
    )

    def __init__(self, context: ListenerContext, client: Client, head: RequestHead, now: float) -> None:
        self._context = context
        self._client = client
        self._head = head
        self._request_id = head.request_id or context.new_request_id()
        self._started_at_wall = context.wall()
        self._started_at = self._sent_at = self._moved_at = now
        self._phase = _PREPARING
        self._route = context.unrouted
        self._task: asyncio.Task[None] | None = None
        self._upstream: UpstreamConnection | None = None

        self._target = b""
        self._body: RequestBody | None = None
        """None for a request without body."""
        self._continued = False
        self._token: AccessToken | None = None
        """The token that was sent."""
        self._has_newer_token = False
        self._has_new_connection = False

        self._status = _NO_RESPONSE
        self._waits_for_turn: bool
        self._late_end: Callable[[], None] | None
        """Takes note of the upstream's end, if that came since then. Both are set when something is put off."""
        self._held: ResponseBuffer | None = None
        self._response_bytes = 0
        self._upstream_duration: float | None = None
        self._closes = False
        """Whether the response under way tells the client that its connection ends."""
        self._failure: str | None = None
        self._detail: str | None
        """Why it has failed, for people. Set with `_failure`, so that a good exchange does not pay for it."""

    @property
    def route_name(self) -> str:
        """Return the name of the route that it is for, NO_ROUTE as long as that is not known."""
        return self._route.identity.name

    # PREPARING: the request is judged, and gets a token and a connection.

    def start(self) -> None:
        """Find the route and decide; then begin, with what has come of the body, if the request is to be forwarded."""
        context, head = self._context, self._head
        refusal = head.meaning.refusal_on_loopback
        if refusal is not None and self._client.is_on_loopback:
            self._conclude(refusal)
            return
        route = context.only_route
        if route is None:
            found = context.find_route(head)
            if isinstance(found, Reject | Respond):
                self._conclude(found)
                return
            route = found
        self._route = route
        now = self._moved_at
        decision = route.admission.decide(head, now)
        if not isinstance(decision, Forward):
            self._conclude(decision)
            return
        self._target = decision
        if route.pacing is not None:
            turns = route.pacing.admit(head.method, decision, now)
            if turns is not None:
                self._await_turns(turns)
                return
        self._begin(route, now)

    def _begin(self, route: Route, now: float) -> None:
        """Begin to forward, with what has come of the body."""
        head = self._head
        codec = self._client.codec
        if not codec.is_request_complete and not self._read_body():
            return
        if self._body is not None and head.meaning.upgrade is not None:
            # A server that does not look for a body behind Upgrade would take it for the next request: of this client alone.
            self._has_new_connection = True
        # The quick way, which needs no task: a fresh token, and an idle connection.
        elif (token := route.tokens.peek()) is not None:
            upstream = route.pool.take(now)
            if upstream is not None:
                self._send(upstream, token)
                return
        if not codec.is_request_complete:
            self._client.pause_reading()
        self._prepare()

    def _read_body(self) -> bool:
        """Take what has come of the body; return whether that was well formed, else refuse the request."""
        codec = self._client.codec
        try:
            pieces = codec.read_body()
        except RequestError as error:
            self.refuse(error)
            return False
        if self._body is None:
            self._body = RequestBody(pieces, limit=self._route.replay_buffer)
        else:
            self._body.take(pieces)
        if codec.is_costly:
            codec.is_costly = False
            self._client.put_off()
        if self._body.size > UNCOUNTED:
            self._client.account()
        return True

    def _conclude(self, decision: Reject | Respond | Wait) -> None:
        """Do with a request what is not to forward it."""
        if isinstance(decision, Wait):
            self._hold_body_back()
            self._start_task(self._wait(decision.until))
        elif isinstance(decision, Respond):
            self._respond(decision.lines)
        else:
            if decision.ends_connection:
                self._client.codec.abandon_request()
            self._fail(decision.problem, decision.detail, status=decision.status, retry_after=decision.retry_after)

    def _hold_body_back(self) -> None:
        if not self._client.codec.is_request_complete:
            # Some bytes may be under way, and come in spite of the pause.
            self._body = self._body or RequestBody(limit=self._route.replay_buffer)
            self._client.pause_reading()

    def _await_turns(self, turns: Reject | list[Pacer]) -> None:
        """Hold the request until its route's rate limits let it go, or refuse it."""
        if isinstance(turns, Reject):
            self._conclude(turns)
            return
        self._hold_body_back()
        self._start_task(self._begin_in_turn(turns))

    async def _begin_in_turn(self, turns: list[Pacer]) -> None:
        for pacer in turns:
            refusal = await pacer.wait_for_turn()
            if refusal is not None:
                self._conclude(refusal)
                return
        self._sent_at = self._moved_at = self._context.now()
        self._begin(self._route, self._moved_at)
        self._resume_body()

    async def _wait(self, until: float) -> None:
        await self._context.clock.sleep_until(until)
        self._sent_at = self._moved_at = self._context.now()
        self.start()
        self._resume_body()

    def _respond(self, lines: bytes) -> None:
        """Respond as the final recipient, without content."""
        closes = not self._client.codec.is_request_complete or not self._head.is_persistent
        added = added_to_response(self._context.date(), is_chunked=False, closes=closes, minor=self._head.minor)
        self._status = _FINAL
        self._client.write(b"HTTP/1.1 200 OK\r\n" + lines + added + b"\r\n")
        self._end(is_reusable=not closes)

    def _start_task(self, coroutine: Coroutine[None, None, None]) -> None:
        self._task = asyncio.get_running_loop().create_task(coroutine)
        self._task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        if self._task is not task:
            # Another has begun since, or the exchange is over.
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

    def _prepare(self) -> None:
        """Wait for what is not there at once: a token, a free place in the pool, a new connection."""
        self._phase = _PREPARING
        self._start_task(self._acquire_and_send(self._route))

    async def _acquire_and_send(self, route: Route) -> None:
        try:
            token, upstream = await route.acquire(is_new=self._has_new_connection)
        except TokenUnavailableError as error:
            self._fail(Problem.TOKEN_UNAVAILABLE, str(error), retry_after=error.retry_after)
        except PoolExhaustedError as error:
            self._fail(Problem.UPSTREAM_BUSY, str(error))
        except UpstreamConnectError as error:
            self._fail(error.problem, error.detail)
        else:
            now = self._context.now()
            if self._phase is _OVER:
                route.pool.release(upstream, now, None)
                return
            self._sent_at = self._moved_at = now
            self._send(upstream, token)
            self._resume_body()

    def _resume_body(self) -> None:
        """Read the rest of the request's body, now that it can be sent on."""
        upstream = self._upstream
        if upstream is not None and not self._client.codec.is_request_complete and not upstream.is_write_paused:
            self._client.resume_reading()

    # AWAITING: the request is sent, its body as it comes, and interim responses pass.

    def _send(self, upstream: UpstreamConnection, token: AccessToken) -> None:
        """Send the head, with the bearer line, and what there is of the body, in one piece."""
        head = self._head
        self._phase = _AWAITING
        self._upstream = upstream
        self._token = token
        upstream.user = self
        upstream.request_count += 1
        forwarded = head.forwarded
        if head.method == b"OPTIONS" and head.meaning.max_forwards is not None:
            # Other methods may ignore Max-Forwards, and it passes as it came (RFC 9110 §7.6.2).
            forwarded = count_down(forwarded, head.meaning.max_forwards)
        route = self._route
        authorization_line = token.authorization_line
        if route.keeps_authorization and head.meaning.authorization_line:
            authorization_line = head.meaning.authorization_line
        lines = route.headers.of_request(
            forwarded,
            head.minor,
            None if head.request_id else self._request_id,
            authorization_line,
        )
        body = self._body
        if body is None:
            data = upstream.codec.encode_request(head, self._target, lines)
        else:
            pieces, end = self._take_waiting(body)
            data = upstream.codec.encode_request(head, self._target, lines, pieces, end)
            if body.size > UNCOUNTED:
                self._client.account()
        upstream.transport.write(data)

    @property
    def _has_own_authorization(self) -> bool:
        """Say whether the client's own Authorization passes in place of the token."""
        return self._route.keeps_authorization and bool(self._head.meaning.authorization_line)

    def _take_waiting(self, body: RequestBody) -> tuple[list[bytes], bytes | None]:
        """Return what is to be sent of the body, and its trailer lines if it ends there, else None."""
        codec = self._client.codec
        body.is_sent = codec.is_request_complete
        return body.take_waiting(), codec.trailers if body.is_sent else None

    def on_client_body(self, pieces: Sequence[bytes]) -> None:
        """Pass more of the request's body on; it ends here if the client's codec says so."""
        self._moved_at = self._context.now()
        body, upstream = self._body, self._upstream
        if body is None:
            return
        body.take(pieces)
        if upstream is None or body.is_delayed:
            # Some bytes were under way when reading was paused.
            return
        if not pieces and not self._client.codec.is_request_complete:
            return
        if self._phase is _AWAITING and upstream.has_unread_input():
            self._delay_body(body)
        else:
            self._send_body(body, upstream)

    def _send_body(self, body: RequestBody, upstream: UpstreamConnection) -> None:
        pieces, end = self._take_waiting(body)
        data = upstream.codec.encode_body(pieces, trailers=end)
        if data:
            upstream.transport.write(data)

    def _delay_body(self, body: RequestBody) -> None:
        """
        Send no more of the body until what has come from the upstream is read.

        It may have refused the body and gone. Writing then fails, and with it the reading of the response that says
        why, though a sender of a body is to watch for one (RFC 9112 §9.5).
        """
        body.is_delayed = True
        self._client.pause_reading()
        loop = asyncio.get_running_loop()
        # Two turns: the sockets are read between them.
        loop.call_soon(loop.call_soon, self._send_delayed_body)

    def _send_delayed_body(self) -> None:
        body, upstream = self._body, self._upstream
        if upstream is not None and body is not None and body.is_delayed:
            body.is_delayed = False
            self._send_body(body, upstream)
            self._client.account()
            if not upstream.is_write_paused:
                self._client.resume_reading()

    def _is_body_at_hand(self) -> bool:
        """Say whether the request has come in full and can be sent again."""
        is_kept = self._body is None or self._body.is_kept
        return self._client.codec.is_request_complete and is_kept

    @property
    def held_bytes(self) -> int:
        """Return how many bytes of the request are held here: those that the upstream does not take too."""
        body, upstream = self._body, self._upstream
        held = 0 if body is None else body.held
        if upstream is not None and upstream.is_write_paused:
            held += upstream.transport.get_write_buffer_size()
        return held

    def spare_memory(self) -> None:
        """Keep the request's body no longer than it takes to send it: the request is then not sent a second time."""
        if self._body is not None:
            self._body.spare()

    def on_client_full(self) -> None:
        """Stop reading the response: the client does not keep up."""
        if self._upstream is not None:
            self._upstream.transport.pause_reading()

    def on_client_drained(self) -> None:
        """Read the response again."""
        if self._phase is not _AWAITING:
            self._moved_at = self._context.now()
        upstream = self._upstream
        if upstream is not None:
            if upstream.is_put_off:
                self._wait_for_turn()
            else:
                upstream.transport.resume_reading()

    def on_upstream_full(self) -> None:
        """Stop reading the request: the upstream does not keep up."""
        if not self._client.codec.is_request_complete:
            self._client.pause_reading()
        self._client.account()

    def on_upstream_drained(self) -> None:
        """Read the request again."""
        self._moved_at = self._context.now()
        self._client.resume_reading()
        self._client.account()

    def on_upstream_data(self, data: bytes) -> None:
        """Take bytes of the response."""
        waits_since = self._moved_at
        self._moved_at = self._context.now()
        upstream = self._upstream
        if upstream is None:
            return
        codec = upstream.codec
        codec.unread = codec.unread + data if codec.unread else data
        try:
            if self._phase is not _AWAITING:
                self._pass_body(upstream)
                return
            while (head := codec.read_head()) is not None:
                if head.status >= _FINAL:
                    length = codec.body_left
                    self._begin_response(upstream, head, length, codec.read_body())
                    return
                if head.status == _SWITCHING_PROTOCOLS:
                    self._switch_protocols(upstream, head)
                    return
                if self._pass_interim(upstream, head):
                    waits_since = self._moved_at
                if self._ends_share(upstream):
                    break
            # Part of a head, or an interim response, is no reason to wait longer for the final one.
            self._moved_at = waits_since
        except ResponseError as error:
            if codec.head is not None and self._phase is _AWAITING:
                # The body is malformed from its start: the client gets the head, and sees that no body follows.
                self._begin_response(upstream, codec.head, codec.body_left, ())
            self._fail(Problem.UPSTREAM_MALFORMED, error.detail)

    def _pass_interim(self, upstream: UpstreamConnection, head: ResponseHead) -> bool:
        """
        Pass a 1xx response on, which an HTTP/1.0 client must not get (RFC 9110 §15.2).

        Return whether it is the client's turn now: it may send the body that it has held back. Raises ResponseError if there
        were too many.
        """
        if upstream.codec.interim_responses > _MOST_INTERIM_RESPONSES:
            raise ResponseError(f"the upstream sent more than {_MOST_INTERIM_RESPONSES} interim responses")
        is_clients_turn = (
            head.status == _CONTINUE and not self._continued and not self._client.codec.is_request_complete
        )
        if head.status == _CONTINUE:
            self._continued = True
        if self._head.minor:
            self._client.write(self._hide_token(head.passed) + b"\r\n")
        return is_clients_turn

    # A response of many small parts is passed on in shares.

    def _ends_share(self, upstream: UpstreamConnection) -> bool:
        """Say whether so many interim responses have passed that the next is put off."""
        if upstream.codec.interim_responses % _INTERIM_RESPONSES_PER_TURN:
            return False
        self._put_off(upstream)
        return True

    def _put_off(self, upstream: UpstreamConnection) -> None:
        """Read nothing more from the upstream until others have been served."""
        if not upstream.is_put_off:
            upstream.is_put_off = True
            self._waits_for_turn = False
            self._late_end = None
        upstream.transport.pause_reading()
        self._wait_for_turn()

    def _wait_for_turn(self) -> None:
        if not self._waits_for_turn:
            self._waits_for_turn = True
            self._context.turns.put_off(self)

    def go_on(self) -> None:
        """Pass on the next share of what was put off, unless the client does not keep up."""
        self._waits_for_turn = False
        upstream = self._upstream
        if upstream is None or self._client.is_write_paused:
            return
        upstream.is_put_off = False
        late_end = self._late_end
        upstream.transport.resume_reading()
        self.on_upstream_data(b"")
        if late_end is not None and self._upstream is upstream:
            if upstream.is_put_off:
                self._late_end = late_end
            else:
                late_end()

    def abort(self) -> None:
        """Give up the upstream's connection, and with it the response: a share of it failed unexpectedly."""
        if self._upstream is not None:
            self._upstream.is_put_off = False
            self._upstream.transport.abort()

    def _switch_protocols(self, upstream: UpstreamConnection, head: ResponseHead) -> None:
        """Turn the exchange into a tunnel, if a protocol that was asked for is behind it (RFC 9110 §7.8)."""
        asked = self._head.meaning.upgrade
        if asked is None or not self._client.codec.is_request_complete:
            raise ResponseError("the upstream switched protocols without having been asked to (RFC 9110 §7.8)")
        switched_to = head.meaning.upgrade
        if switched_to is None or not is_switch_to_an_offer(switched_to, offers=asked):
            raise ResponseError("the upstream switched to a protocol that it was not asked for (RFC 9110 §7.8)")
        self._phase = _TUNNEL
        self._status = head.status
        self._upstream_duration = self._moved_at - self._sent_at
        self._client.write(self._hide_token(head.passed) + added_to_switch(switched_to) + b"\r\n")
        tunnel = Tunnel(
            client=self._client,
            upstream=upstream,
            idle_timeout=self._route.timeouts.idle,
            now=self._context.now,
            route_name=self.route_name,
            on_closed=self._tunnel_closed,
        )
        upstream.user = tunnel
        unread = upstream.codec.take_unread()
        self._client.begin_tunnel(tunnel)
        if unread:
            tunnel.on_upstream_data(unread)

    def _tunnel_closed(self, tunnel: Tunnel) -> None:
        self._body = self._body or RequestBody(limit=0)
        self._body.size += tunnel.bytes_up
        self._response_bytes += tunnel.bytes_down
        self._upstream = None
        self._end(is_reusable=False)

    # RESPONDING: the final head, and the body as it comes.

    def _begin_response(
        self, upstream: UpstreamConnection, head: ResponseHead, length: int, body: Sequence[bytes]
    ) -> None:
        """Send the final response's head on, and what came of its body with it, in one piece."""
        client = self._client
        codec = client.codec
        upstream_codec = upstream.codec
        self._phase = _RESPONDING
        self._status = head.status
        if head.status in _REFUSALS:
            self._consider_refusal(head)
        self._upstream_duration = self._moved_at - self._sent_at
        for piece in body:
            self._response_bytes += len(piece)
        # A body that the client still sends may never end, so an early response ends the connection (RFC 9112 §9.6).
        self._closes = closes = (
            not codec.is_request_complete
            or not self._head.is_persistent
            or self._context.announces_close
            or (length < 0 and not self._head.minor)
        )
        is_complete = upstream_codec.is_complete
        trailers = upstream_codec.trailers if is_complete else None
        token = self._token
        data = codec.encode_response(
            head.passed if token is not None and head.is_free_of is token.needle else self._look_through(head),
            length=length,
            date=None if head.has_date else self._context.date(),
            closes=closes,
            body=body,
            trailers=trailers and self._hide_token(trailers),
        )
        if self._held is None:
            client.transport.write(data)
        else:
            self._hold(self._held, data)
        if is_complete:
            self._complete(upstream)
        elif upstream_codec.is_costly:
            upstream_codec.is_costly = False
            self._put_off(upstream)

    def _pass_body(self, upstream: UpstreamConnection) -> None:
        """Send the client what has arrived of the body, and end if it is whole."""
        codec = upstream.codec
        try:
            body = codec.read_body()
        except ResponseError as error:
            self._cut(Problem.UPSTREAM_MALFORMED, error.detail)
            return
        for piece in body:
            self._response_bytes += len(piece)
        data = self._client.codec.encode_body(
            body, trailers=self._hide_token(codec.trailers) if codec.is_complete else None
        )
        if data:
            if self._held is None:
                self._client.write(data)
            else:
                self._hold(self._held, data)
        if codec.is_complete:
            self._complete(upstream)
        elif codec.is_costly:
            codec.is_costly = False
            self._put_off(upstream)

    def _look_through(self, head: ResponseHead) -> bytes:
        """Return the lines of a final head with the token masked; remember it if the token is not in them."""
        lines = self._hide_token(head.passed)
        if lines is head.passed and self._token is not None:
            head.is_free_of = self._token.needle
        return lines

    def _hide_token(self, lines: bytes) -> bytes:
        """Return lines of the upstream with the token in them masked, which it has sent back."""
        if self._token is None or self._token.needle not in lines:
            return lines
        self._route.reflected_tokens += 1
        return hide_token(lines, self._token.needle)

    def _hold(self, held: ResponseBuffer, data: bytes) -> None:
        held.hold(data)
        if held.size > _LARGEST_HELD_RESPONSE:
            self._release_held_response()

    def _complete(self, upstream: UpstreamConnection) -> None:
        """End well: the response is whole. The upstream connection is kept if both sides have left it clean."""
        self._upstream = None
        route = self._route
        if upstream.codec.is_reusable and (
            self._body is None or (self._body.is_sent and self._head.meaning.upgrade is None)
        ):
            if upstream.request_count == 1:
                route.connector.remember_session(upstream)
            if self._client.is_write_paused:
                upstream.transport.resume_reading()
            head = upstream.codec.head
            timeout = None if head is None else head.meaning.keep_alive_timeout
            # A second less than the upstream keeps it, so as to be the first to leave.
            route.pool.release(upstream, self._moved_at, None if timeout is None else timeout - 1.0)
        else:
            upstream.close()
        if self._phase is _HOLDING:
            self._seek_newer_token()
            return
        self._client.exchange_ended(self._finish(), is_reusable=not self._closes)

    # HOLDING and RENEWING: a 401 may be about the token; then there is one more try with a newer one.

    def _consider_refusal(self, head: ResponseHead) -> None:
        """Have another token fetched if the API has refused this one, and hold the response back if that helps."""
        route = self._route
        if head.status == _TOO_MANY_REQUESTS:
            self._heed_rate_limit(head)
            return
        challenges = field_values(head.passed, b"www-authenticate")
        if head.status == _FORBIDDEN:
            route.scope_refusals += wants_more_scope(challenges)
            return
        if self._has_newer_token or self._has_own_authorization or not is_about_token(challenges):
            return
        route.token_refusals += 1
        route.tokens.reject(self._generation)
        if may_use_newer_token(
            body_is_whole=self._is_body_at_hand(), is_body_sent=self._body is None or self._body.is_sent
        ):
            self._phase = _HOLDING
            self._held = ResponseBuffer()

    def _heed_rate_limit(self, head: ResponseHead) -> None:
        """Let the route's rate limits hold the next requests for as long as the API says."""
        pacing = self._route.pacing
        if pacing is None:
            return
        value = next(iter(field_values(head.passed, b"retry-after")), b"").decode("latin-1")
        seconds = parse_retry_after(value, wall=self._context.wall())
        pacing.hold(self._head.method, self._target, _DEFAULT_HOLD if seconds is None else min(seconds, _LONGEST_HOLD))

    def _release_held_response(self) -> None:
        """Send the client what was held back: it gets the 401 as it came."""
        held, self._held = self._held, None
        if held is not None:
            self._phase = _RESPONDING
            self._client.write(held.release())

    def _seek_newer_token(self) -> None:
        """Send the request again, now that the whole 401 is here, as soon as there is a newer token."""
        self._phase = _RENEWING
        token = self._route.tokens.peek()
        if token is not None and token.generation > self._generation:
            self._use_newer_token(token)
        else:
            self._start_task(self._await_newer_token())

    @property
    def _generation(self) -> int:
        return 0 if self._token is None else self._token.generation

    async def _await_newer_token(self) -> None:
        route = self._route
        try:
            token = await route.tokens.acquire(route.wait_for_token, newer_than=self._generation)
        except TokenUnavailableError:
            self._pass_held_response()
        else:
            self._use_newer_token(token)

    def _pass_held_response(self) -> None:
        self._release_held_response()
        self._end(is_reusable=not self._closes)

    def _use_newer_token(self, token: AccessToken) -> None:
        """Send the request again, unless the authorization server has granted the refused text once more."""
        if self._token is not None and token.authorization_line == self._token.authorization_line:
            self._pass_held_response()
        else:
            self._resend_with_newer_token()

    def _resend_with_newer_token(self) -> None:
        """Send the request once more, as if no response had come; the next one passes, whatever it is."""
        self._has_newer_token = True
        self._route.replays += 1
        self._held = None
        self._status = _NO_RESPONSE
        self._response_bytes = 0
        self._upstream_duration = None
        self._closes = False
        self._resend()

    def _resend(self) -> None:
        if self._body is not None:
            self._body.restart()
        self._prepare()

    # The ends of either side.

    def on_upstream_eof(self) -> None:
        """End a body that lasts until the connection closes; anything else is cut short by it."""
        upstream = self._upstream
        if upstream is not None:
            if upstream.is_put_off:
                self._late_end = self.on_upstream_eof
                return
            if upstream.codec.receive_end():
                self._pass_body(upstream)
                return
        self.on_upstream_lost(None)

    def on_upstream_lost(self, error: Exception | None) -> None:
        """Send the request again if that is safe; else tell the client, or cut what it has begun to get."""
        upstream = self._upstream
        if upstream is None or self._phase is _OVER:
            return
        if upstream.is_put_off:
            self._late_end = self._late_end or partial(self.on_upstream_lost, error)
            return
        self._upstream = None
        upstream.close()
        if self._phase is not _AWAITING:
            how = "reset" if isinstance(error, ConnectionError) else "closed"
            # To TLS, this is how a body that lasts until the connection ends is cut, whatever the upstream meant (RFC 9112 §9.8).
            unsaid = " and without TLS's close_notify" if isinstance(error, EOFError) else ""
            self._cut(
                Problem.UPSTREAM_INCOMPLETE,
                f"the upstream {how} the connection in the middle of the response's body{unsaid}",
            )
            return
        codec = upstream.codec
        if may_use_new_connection(
            method=self._head.method,
            body_is_whole=self._is_body_at_hand(),
            was_used_before=upstream.request_count > 1,
            has_received=codec.has_received,
            has_done_so=self._has_new_connection,
        ):
            self._has_new_connection = True
            self._route.retries += 1
            self._resend()
        elif isinstance(error, ssl.SSLError):
            # At TLS 1.3 an upstream refuses our certificate only after our side of the handshake is over.
            self._fail(Problem.UPSTREAM_TLS, f"the upstream ended the TLS session: {describe_tls_error(error)}")
        elif codec.has_partial_head:
            self._fail(
                Problem.UPSTREAM_CLOSED, "the upstream closed the connection in the middle of the response's head"
            )
        else:
            how = "reset" if isinstance(error, ConnectionError) else "closed"
            self._fail(Problem.UPSTREAM_CLOSED, f"the upstream {how} the connection before it responded")

    def on_client_lost(self) -> None:
        """Give up: the client is gone, and so the upstream need not go on."""
        if self._phase is not _OVER:
            self._failure = Problem.CLIENT_GONE.value.name
            self._detail = "the client closed the connection before it had the whole response"
            if self._held is not None:
                self._status = _NO_RESPONSE
            self._end(is_reusable=False)

    def refuse(self, error: RequestError) -> None:
        """Refuse a request that breaks the rules; its framing is in doubt, so the connection goes with it."""
        self._client.codec.abandon_request()
        self._fail(Problem.REQUEST_MALFORMED, error.detail, status=error.status)

    def check_time(self, now: float) -> None:
        """End what has stood still for longer than it may; `now` by the context's clock, in seconds."""
        upstream = self._upstream
        if upstream is None:
            # The token, the place in the pool and the connection have time limits of their own.
            return
        limits = self._route.timeouts
        client = self._client
        if self._phase is _AWAITING:
            overdue = find_overdue_request(
                now - self._moved_at,
                limits=limits,
                waits_for_response=client.codec.is_request_complete
                or (
                    self._head.meaning.expects_continue and not self._continued and not (self._body and self._body.size)
                ),
                upstream_is_full=upstream.is_write_paused,
            )
            if overdue is not None:
                self._fail(*overdue)
            return
        if client.is_write_paused and client.has_write_buffer_changed():
            # A slow reader is not a stalled one.
            self._moved_at = now
            return
        overdue = find_overdue_response(now - self._moved_at, limits=limits, client_is_full=client.is_write_paused)
        if overdue is not None:
            self._cut(*overdue)

    def end_at_once(self) -> None:
        """End because the proxy stops and the time to finish is over."""
        if self._phase is _RENEWING:
            # The response is here.
            self._release_held_response()
            self._end(is_reusable=False)
        elif self._phase is not _OVER:
            self._fail(Problem.SHUTTING_DOWN, "the proxy was told to stop before the response came")

    # OVER.

    def _fail(
        self, problem: Problem, detail: str, *, status: int | None = None, retry_after: float | None = None
    ) -> None:
        """Respond with a problem of the proxy's own, or cut a response that has begun."""
        if self._phase is _OVER:
            return
        if self._phase in RESPONSE_HAS_BEGUN:
            self._cut(problem, detail)
            return
        context = self._context
        closes = not self._client.codec.is_request_complete or not self._head.is_persistent or context.announces_close
        self._status = status or problem.value.status
        self._failure = problem.value.name
        self._detail = detail
        self._client.write(
            render_problem(
                problem,
                detail=detail,
                proxy_name=self._route.identity.proxy_name,
                next_hop=self._route.identity.next_hop,
                request_id=self._request_id.decode("utf-8", "replace"),
                date=context.date(),
                status=status,
                retry_after=retry_after,
                is_head=self._head.method == b"HEAD",
                closes=closes,
                keeps_alive=not self._head.minor,
            )
        )
        self._end(is_reusable=not closes)

    def _cut(self, problem: Problem, detail: str) -> None:
        """Break the client's connection: the response that it has begun to get will not be whole."""
        self._failure = problem.value.name
        self._detail = detail
        self._release_held_response()
        self._finish()
        # A body that ends with the connection would look complete after an orderly close.
        self._client.break_off(hard=self._client.codec.is_close_delimited)

    def _end(self, *, is_reusable: bool) -> None:
        self._client.exchange_ended(self._finish(), is_reusable=is_reusable)

    def _finish(self) -> float:
        """Let go of everything that is still held, and report, once; return the time, by the context's clock."""
        self._phase = _OVER
        now = self._context.now()
        if self._task is not None:
            self._task.cancel()
            self._task = None
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.close()
        self._context.observer.exchange_finished(
            ExchangeRecord(
                self._route.identity.name,
                self._head.method,
                self._head.target,
                self._request_id,
                self._status,
                0 if self._body is None else self._body.size,
                self._response_bytes,
                now - self._started_at,
                self._upstream_duration,
                self._failure,
                self._started_at_wall,
                None if self._failure is None else self._detail,
            )
        )
        return now
