"""
`make mutants`: changes the code in ways that matter, one at a time, and fails if the tests do not notice.

    1. the checkout is copied, so that nothing here is touched
    2. the tests that the mutants name pass on the copy as it is
    3. each mutant: its text is replaced in the copy, its tests run and must fail, and the text is put back

A mutant that survives means that the line it changes is redundant or that its test is missing. One whose text is gone
has to be written anew for what the code says now.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ROOT: Final = Path(__file__).parents[1]

_NOT_COPIED: Final = (".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info", "build", "dist")
_SOURCE_ROOT: Final = "proxy"
_TIMEOUT: Final = 240.0
"""Seconds for the tests of one mutant. One that makes them hang is noticed too: pytest's own limit ends the test."""

_PASSED: Final = 0
_FAILED: Final = 1


class MutantError(Exception):
    """The mutants cannot be judged; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A change to one place of the package, and the tests that must notice it."""

    name: str
    """The promise that it breaks."""
    file: str
    """Below the package."""
    text: str
    """The source text, which must occur exactly once."""
    replacement: str
    tests: str
    """What pytest is given: files or tests, separated by spaces."""


MUTANTS: Final = (
    Mutant(
        name="an idle connection that has outlived its time is not used again",
        file="http1/pool.py",
        text="if connection.idle_until > now and not connection.transport.is_closing():",
        replacement="if not connection.transport.is_closing():",
        tests="tests/shell/http1/test_pool.py",
    ),
    Mutant(
        name="a page that says it is of the proxy's own origin is believed only if its browser does not say otherwise",
        file="core/policy/browsers.py",
        text="not (is_own_site and _is_own(origin, authority))",
        replacement="not _is_own(origin, authority)",
        tests="tests/core/policy/test_browsers.py",
    ),
    Mutant(
        name="only what came in over loopback is refused as a web page's",
        file="http1/exchange.py",
        text="if refusal is not None and self._client.is_on_loopback:",
        replacement="if refusal is not None:",
        tests="tests/shell/http1/test_web_pages.py",
    ),
    Mutant(
        name="a client that leaves loses its place",
        file="http1/pacer.py",
        text="            turns.leave(place, clock.now())\n            raise\n",
        replacement="            raise\n",
        tests="tests/shell/http1/test_pacing.py",
    ),
    Mutant(
        name="a token in a response's head is masked",
        file="http1/exchange.py",
        text="head.passed if token is not None and head.is_free_of is token.needle else self._look_through(head),",
        replacement="head.passed,",
        tests="tests/shell/http1/test_route_headers.py",
    ),
    Mutant(
        name="a dot segment in any spelling is refused if rules exist",
        file="core/policy/paths.py",
        text="        if text and _is_dots(text):",
        replacement="        if text == '..':",
        tests="tests/core/policy/test_allow_rules.py",
    ),
    Mutant(
        name="rules are held against the path below the base path",
        file="core/policy/admission.py",
        text='below = target[len(self._base_path) :] if target.startswith(b"/") else target',
        replacement="below = target",
        tests="tests/shell/http1/test_allow_rules.py",
    ),
    Mutant(
        name="a connection is not kept past its lifetime",
        file="http1/pool.py",
        text="        idle_until = min(idle_until, end_of_life)\n",
        replacement="",
        tests="tests/shell/http1/test_pool.py",
    ),
    Mutant(
        name="connections from before a change of TLS files are not used again",
        file="http1/pool.py",
        text="if idle_until <= now or connection.created_at <= self._retired_at:",
        replacement="if idle_until <= now:",
        tests="tests/shell/http1/test_tls_rotation.py",
    ),
    Mutant(
        name="a waiter gets the place of a connection that could not be opened",
        file="http1/pool.py",
        text="                waiter.set_result(None)\n                return\n",
        replacement="                return\n",
        tests="tests/shell/http1/test_pool.py tests/shell/http1/test_pool_handover.py",
    ),
    Mutant(
        name="a connection whose request body was not sent whole is not reused",
        file="http1/exchange.py",
        text="        body.is_sent = codec.is_request_complete\n",
        replacement="        body.is_sent = True\n",
        tests="tests/shell/http1/test_interim_responses.py tests/shell/http1/test_pool.py",
    ),
    Mutant(
        name="a connection on which the body is still held up is not reused",
        file="http1/exchange.py",
        text="(self._body.is_sent and self._head.meaning.upgrade is None)",
        replacement="(self._client.codec.is_request_complete and self._head.meaning.upgrade is None)",
        tests="tests/shell/http1/test_interim_responses.py tests/shell/http1/test_pool.py tests/shell/http1/test_disorder.py",
    ),
    Mutant(
        name="a connection whose response says close is not reused",
        file="http1/exchange.py",
        text="if upstream.codec.is_reusable and (",
        replacement="if (",
        tests="tests/shell/http1/test_pool.py tests/shell/http1/test_response_forwarding.py",
    ),
    Mutant(
        name="a connection that had an upgrade with a body is not reused",
        file="http1/exchange.py",
        text="(self._body.is_sent and self._head.meaning.upgrade is None)",
        replacement="self._body.is_sent",
        tests="tests/shell/http1/test_upgrade.py",
    ),
    Mutant(
        name="an upstream switches to nothing but what the client offered",
        file="http1/exchange.py",
        text="if switched_to is None or not is_switch_to_an_offer(switched_to, offers=asked):",
        replacement="if switched_to is None:",
        tests="tests/shell/http1/test_upgrade.py",
    ),
    Mutant(
        name="a request is sent again at most once after a stale connection",
        file="core/http/resend.py",
        text="is_likely_stale and not has_done_so and body_is_whole",
        replacement="is_likely_stale and body_is_whole",
        tests="tests/core/http/test_resend.py",
    ),
    Mutant(
        name="a response that is cut cannot look whole",
        file="http1/exchange.py",
        text="self._client.break_off(hard=self._client.codec.is_close_delimited)",
        replacement="self._client.break_off(hard=False)",
        tests="tests/shell/http1/test_broken_upstreams.py",
    ),
    Mutant(
        name="the time to linger begins when the last byte has left",
        file="http1/client_connection.py",
        text="                self._linger_until = now + _LINGER\n",
        replacement="                pass\n",
        tests="tests/shell/http1/test_interim_responses.py",
    ),
    Mutant(
        name="a client that does not read is told from one that reads slowly",
        file="http1/exchange.py",
        text="            # A slow reader is not a stalled one.\n            self._moved_at = now\n",
        replacement="",
        tests="tests/shell/http1/test_streaming.py",
    ),
    Mutant(
        name="the rejection of an older token does nothing",
        file="core/lifecycle.py",
        text="is_newest = token is not None and token.generation == generation",
        replacement="is_newest = token is not None",
        tests="tests/core/test_lifecycle.py",
    ),
    Mutant(
        name="a secret that changes during a fetch causes one more",
        file="core/lifecycle.py",
        text="    if phase.is_outdated:\n",
        replacement="    if False:\n",
        tests="tests/core/test_lifecycle.py",
    ),
    Mutant(
        name="Retry-After is waited for in the quick lane",
        file="core/backoff.py",
        text="return max(SHORTEST_DELAY, floor + jitter",
        replacement="return max(SHORTEST_DELAY, jitter",
        tests="tests/core/test_backoff.py",
    ),
    Mutant(
        name="a used-up quota is waited for beyond an hour",
        file="core/backoff.py",
        text="min(stated, LONGEST_EXHAUSTION)",
        replacement="min(stated, LONGEST_RETRY_AFTER)",
        tests="tests/core/test_backoff.py",
    ),
    Mutant(
        name="the last tokens of the quota are not spent on a refused token",
        file="core/lifecycle.py",
        text="return max(at, has_spare_at(state.quota, now), may_begin_at(state.paid_until))",
        replacement="return max(at, may_begin_at(state.paid_until))",
        tests="tests/core/test_lifecycle.py",
    ),
    Mutant(
        name="errors in a row keep to the pace",
        file="core/lifecycle.py",
        text="max(now + wait, may_begin_at(state.paid_until)), now)",
        replacement="now + wait, now)",
        tests="tests/core/test_pace.py",
    ),
    Mutant(
        name="short-lived tokens keep to the pace",
        file="core/lifecycle.py",
        text="""phase.since + SHORTEST_CYCLE, may_begin_at(state.paid_until))
    return replace(state, phase=Idle(wake_at=at)), (*published""",
        replacement="""phase.since + SHORTEST_CYCLE)
    return replace(state, phase=Idle(wake_at=at)), (*published""",
        tests="tests/core/test_pace.py",
    ),
    Mutant(
        name="a found token does not end the pace",
        file="core/lifecycle.py",
        text="""phase.since + SHORTEST_CYCLE, may_begin_at(state.paid_until))
    return replace(state, phase=Idle(wake_at=at)), (Publish(""",
        replacement="""phase.since + SHORTEST_CYCLE)
    return replace(state, phase=Idle(wake_at=at)), (Publish(""",
        tests="tests/core/test_pace.py",
    ),
    Mutant(
        name="refused tokens keep to the pace",
        file="core/lifecycle.py",
        text="return max(at, has_spare_at(state.quota, now), may_begin_at(state.paid_until))",
        replacement="return max(at, has_spare_at(state.quota, now))",
        tests="tests/core/test_pace.py",
    ),
    Mutant(
        name="the price of failures is paid",
        file="core/lifecycle.py",
        text="else pay(state.paid_until, began_at=phase.since, lifetime=None),",
        replacement="else state.paid_until,",
        tests="tests/core/test_pace.py",
    ),
    Mutant(
        name="the budget of forced fetches is the fleet's",
        file="core/token_sharing.py",
        text="is_too_soon = now < next_forced_at(token.forcing, shortest=shortest)",
        replacement="is_too_soon = False",
        tests="tests/core/test_token_sharing.py",
    ),
    Mutant(
        name="an entry of the store cannot be put in the place of another",
        file="core/token_sealing.py",
        text='return AESGCM(self._key).decrypt(nonce, sealed, _MAGIC + name.encode("ascii"))',
        replacement="return AESGCM(self._key).decrypt(nonce, sealed, _MAGIC)",
        tests="tests/core/test_token_sealing.py",
    ),
    Mutant(
        name="whoever has the lock looks into the store once more",
        file="tokens/sharing.py",
        text="            judgement = self._judge(entries, question)\n",
        replacement="            judgement = None\n",
        tests="tests/shell/test_token_sharing.py",
    ),
    Mutant(
        name="a lock in a directory ends with its lease",
        file="tokens/directory_store.py",
        text="if not _flock(before) and _now(directory) < os.fstat(before).st_mtime + lease:",
        replacement="if not _flock(before):",
        tests="tests/shell/test_token_stores.py",
    ),
    Mutant(
        name="an unusable response that may have cost a token is retried slowly",
        file="core/oauth/token_response.py",
        text="""response {problem}", may_have_cost_token=True)""",
        replacement="""response {problem}")""",
        tests="tests/core/test_oauth_response.py",
    ),
    Mutant(
        name="a token of a response is no word of it, whatever its member is called",
        file="core/oauth/quoting.py",
        text="_SECRET_NAME.fullmatch(name)",
        replacement='name == "access_token"',
        tests="tests/core/test_any_token_response.py",
    ),
    Mutant(
        name="an encoded echo of the secret is found",
        file="core/redaction.py",
        text="*_forms_in_hex(value)",
        replacement="",
        tests="tests/core/test_any_token_response.py",
    ),
    Mutant(
        name="an escaped echo of the secret is found",
        file="core/redaction.py",
        text="for reading in readings\n        for start",
        replacement="for reading in (text.casefold(),)\n        for start",
        tests="tests/core/test_any_token_response.py",
    ),
    Mutant(
        name="a path cannot climb out of the base path in encoded form",
        file="core/http/target.py",
        text='.replace(b"%2e", b".")',
        replacement="",
        tests="tests/core/http/test_target.py",
    ),
    Mutant(
        name="what Connection names does not pass",
        file="core/http/header_rules.py",
        text="dropped = HOP_BY_HOP | _REPLACED | (frozenset(connection) - _HANDLED_OPTIONS)",
        replacement="dropped = HOP_BY_HOP | _REPLACED",
        tests="tests/core/http/test_header_rules.py",
    ),
    Mutant(
        name="a chunk ends where its size says",
        file="core/http/chunked.py",
        text="                    state = _DATA_END\n",
        replacement="                    state = _SIZE\n",
        tests="tests/core/http/test_chunked.py",
    ),
    Mutant(
        name="one call reads a share of a body of many chunks",
        file="core/http/chunked.py",
        text="                if chunks == CHUNKS_PER_CALL:\n                    break\n",
        replacement="",
        tests="tests/core/http/test_chunked.py",
    ),
    Mutant(
        name="the extensions of a body are bounded together",
        file="core/http/chunked.py",
        text="self._excess += max(0, length - size)",
        replacement="self._excess = max(0, length - size)",
        tests="tests/core/http/test_chunked.py",
    ),
    Mutant(
        name="requests that the proxy answers itself are answered in shares",
        file="http1/client_connection.py",
        text="if answered == _REQUESTS_PER_TURN:",
        replacement="if answered > 1000:",
        tests="tests/shell/http1/test_small_parts.py",
    ),
    Mutant(
        name="of the connections that have put work off one goes on in a turn",
        file="http1/turns.py",
        text="if len(self._waiting) == 1:",
        replacement="if self._waiting:",
        tests="tests/shell/http1/test_small_parts.py",
    ),
    Mutant(
        name="an upstream whose response is put off is not read",
        file="http1/exchange.py",
        text="        upstream.transport.pause_reading()\n        self._wait_for_turn()\n",
        replacement="        self._wait_for_turn()\n",
        tests="tests/shell/http1/test_small_parts.py",
    ),
    Mutant(
        name="of two secrets that overlap the longer one is masked whole",
        file="core/redaction.py",
        text="sorted(needles, key=len, reverse=True)",
        replacement="sorted(needles, key=len)",
        tests="tests/core/test_redaction.py",
    ),
    Mutant(
        name="a reading that fails keeps the last good secret",
        file="core/secret.py",
        text="after = SourceState(last_good=state.last_good, error=reading)",
        replacement="after = SourceState(error=reading)",
        tests="tests/core/test_secret.py",
    ),
    Mutant(
        name="the result of a lost call is not taken for a newer one's",
        file="shared_call.py",
        text="if promise is not self._promise:",
        replacement="if self._promise is None:",
        tests="tests/shell/test_shared_call.py",
    ),
    Mutant(
        name="threads that hang for ever are few",
        file="shared_call.py",
        text="if self._under_way >= MOST_THREADS:",
        replacement="if False:",
        tests="tests/shell/test_shared_call.py",
    ),
    Mutant(
        name="a name that DNS denies has no addresses any more",
        file="core/known_name.py",
        text="return KnownName(error=error)",
        replacement="return replace(self, error=error)",
        tests="tests/core/test_known_name.py tests/shell/test_resolver.py",
    ),
    Mutant(
        name="a context is made of what was read",
        file="tls.py",
        text="return _file_of(raw[key], self._paths[key])",
        replacement="return __import__('contextlib').nullcontext(self._paths[key])",
        tests="tests/shell/test_tls_files.py",
    ),
    Mutant(
        name="no plain connection is opened to a TLS upstream whose files hang",
        file="http1/connector.py",
        text="if self._tls_files is not None and self._tls is None:\n            try:",
        replacement="if False:\n            try:",
        tests="tests/shell/http1/test_tls_rotation.py",
    ),
    Mutant(
        name="clients beyond the bound wait",
        file="http1/listener.py",
        text="if len(self._clients) >= self._most_clients and not self._context.is_full:",
        replacement="if False:",
        tests="tests/shell/http1/test_bounds.py",
    ),
    Mutant(
        name="an idle upstream connection makes room for another route's",
        file="http1/pool.py",
        text="            self._make_room()\n",
        replacement="",
        tests="tests/shell/http1/test_bounds.py",
    ),
    Mutant(
        name="TLS that ends without close_notify is no end in order",
        file="http1/tls_stream.py",
        text="        self.abort()\n        return False\n",
        replacement="        return self._protocol is not None and bool(self._protocol.eof_received())\n",
        tests="tests/shell/http1/test_upstream_tls.py",
    ),
    Mutant(
        name="what was in front of a broken record is handed on",
        file="http1/tls_stream.py",
        text="        if data and protocol is not None:",
        replacement="        if data and protocol is not None and self._error is None:",
        tests="tests/shell/http1/test_tls_stream.py",
    ),
    Mutant(
        name="the beginning of a TLS record is kept for the next read",
        file="http1/tls_stream.py",
        text="        self._held = bytes(encrypted[end:count])\n",
        replacement="",
        tests="tests/shell/http1/test_tls_stream.py",
    ),
    Mutant(
        name="a read of many small TLS records lets others go first",
        file="http1/tls_stream.py",
        text="            self._let_others_go()\n",
        replacement="            pass\n",
        tests="tests/shell/http1/test_tls_stream.py",
    ),
    Mutant(
        name="reading that an exchange has stopped does not go on by itself",
        file="http1/tls_stream.py",
        text="if self._is_reading and not self._is_reading_paused:",
        replacement="if self._is_reading:",
        tests="tests/shell/http1/test_tls_stream.py",
    ),
    Mutant(
        name="replies of TLS to a peer that does not read are bounded",
        file="http1/tls_stream.py",
        text="elif self._outgoing.pending > _LARGEST_REPLIES:",
        replacement="elif self._outgoing.pending > 2 * _LARGEST_REPLIES:",
        tests="tests/shell/http1/test_tls_stream.py",
    ),
    Mutant(
        name="what comes behind the handshake is read",
        file="http1/tls_stream.py",
        text="        if early:\n",
        replacement="        if early and not early:\n",
        tests="tests/shell/http1/test_tls_stream.py",
    ),
    Mutant(
        name="a peer whose certificate is refused is told",
        file="http1/tls_stream.py",
        text="            # With the alert that says why.\n            self._send_outgoing()\n",
        replacement="",
        tests="tests/shell/http1/test_tls_stream.py",
    ),
    Mutant(
        name="a TLS connection that is lost is freed at once",
        file="http1/tls_stream.py",
        text="        protocol, self._protocol = self._protocol, None\n",
        replacement="        protocol = self._protocol\n",
        tests="tests/shell/http1/test_tls_stream.py",
    ),
    Mutant(
        name="TLS 1.2 is not ended on one side alone",
        file="http1/tls_stream.py",
        text='return self._tls.version() == "TLSv1.3"',
        replacement="return True",
        tests="tests/shell/http1/test_upstream_tls.py",
    ),
    Mutant(
        name="an upstream that does not read an upload over TLS stops the client",
        file="http1/tls_stream.py",
        text="            self._protocol.pause_writing()\n",
        replacement="            pass\n",
        tests="tests/shell/http1/test_tls_stream.py",
    ),
    Mutant(
        name="an idle TLS connection is closed with close_notify",
        file="http1/upstream_connection.py",
        text="if flush or self.user is None:",
        replacement="if flush:",
        tests="tests/shell/http1/test_upstream_tls.py",
    ),
    Mutant(
        name="a second TLS handshake is refused",
        file="tls.py",
        text="        context.options |= ssl.OP_NO_RENEGOTIATION\n",
        replacement="",
        tests="tests/shell/http1/test_tls_of_openssl.py",
    ),
    Mutant(
        name="no more than the largest TLS record is given to OpenSSL at once",
        file="core/tls_records.py",
        text="after > end or after > longest",
        replacement="after > end",
        tests="tests/core/test_tls_records.py",
    ),
    Mutant(
        name="a TLS header that announces too much goes to OpenSSL",
        file="core/tls_records.py",
        text="            return end\n",
        replacement="            return found\n",
        tests="tests/core/test_tls_records.py",
    ),
)


def mutated(source: str, mutant: Mutant) -> str:
    """Return the source with the mutant in it. Raises MutantError unless its text occurs exactly once."""
    occurrences = source.count(mutant.text)
    if occurrences != 1:
        found = "is not found" if not occurrences else f"occurs {occurrences} times"
        raise MutantError(f"{mutant.file}: the text {mutant.text.strip()!r} {found}; write the mutant anew")
    return source.replace(mutant.text, mutant.replacement)


def run_tests(folder: Path, tests: Iterable[str]) -> tuple[int, str]:
    """Run tests in a copy; return pytest's exit code and what it printed."""
    # The copy comes first on the path, before the package that is installed here.
    environ = {**os.environ, "PYTHONPATH": str(folder / _SOURCE_ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *tests]
    ran = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=_TIMEOUT
    )
    return ran.returncode, ran.stdout + ran.stderr


def survives(mutant: Mutant, folder: Path) -> bool:
    """Return whether the mutant's tests pass in spite of it. Raises MutantError if they cannot be run."""
    file = folder / _SOURCE_ROOT / "switch_proxy" / mutant.file
    source = file.read_text(encoding="utf-8")
    file.write_text(mutated(source, mutant), encoding="utf-8")
    try:
        code, printed = run_tests(folder, mutant.tests.split())
    finally:
        file.write_text(source, encoding="utf-8")
    if code not in {_PASSED, _FAILED}:
        raise MutantError(f"{mutant.name}: pytest ended with {code}:\n{printed}")
    return code == _PASSED


def judge(mutants: Sequence[Mutant], folder: Path) -> Sequence[str]:
    """Try each mutant in a copy and print its fate; return the complaints. Raises MutantError if the tests fail without."""
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*_NOT_COPIED), dirs_exist_ok=True)
    tests = sorted({test for mutant in mutants for test in mutant.tests.split()})
    code, printed = run_tests(folder, tests)
    if code != _PASSED:
        raise MutantError(f"the tests fail without any mutant:\n{printed}")
    complaints = []
    for mutant in mutants:
        try:
            fate = "SURVIVED" if survives(mutant, folder) else "killed"
        except (MutantError, FileNotFoundError) as error:
            fate = "NOT JUDGED"
            complaints.append(str(error))
        else:
            if fate == "SURVIVED":
                complaints.append(f"{mutant.file}: no test of {mutant.tests} notices that not: {mutant.name}")
        print(f"{fate:10}  {mutant.file:26}  {mutant.name}", flush=True)
    return complaints


def main() -> int:
    """Judge the mutants and return the exit code."""
    parser = argparse.ArgumentParser(prog="make mutants", description="Change the code; the tests must notice.")
    parser.add_argument("-k", metavar="TEXT", default="", help="only mutants with this text in their file or name")
    only = parser.parse_args().k
    chosen = [mutant for mutant in MUTANTS if only in mutant.name or only in mutant.file]
    try:
        with tempfile.TemporaryDirectory(prefix="switch-proxy-mutants-") as folder:
            complaints = judge(chosen, Path(folder))
    except (MutantError, subprocess.TimeoutExpired) as error:
        complaints = [str(error)]
    for complaint in complaints:
        print(f"mutants: {complaint}", file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
