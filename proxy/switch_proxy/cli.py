"""
The command line: reads the arguments, calls the module that does the work, and returns an exit code.

Each command imports what it needs, so that `health` and `version` start quickly.
"""

# ruff: noqa: PLC0415 - what a command needs is imported in it

from __future__ import annotations

import argparse
import os
import sys
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from switch_proxy import __version__
from switch_proxy.core.errors import ConfigurationError, InvalidValueError, SwitchProxyError
from switch_proxy.core.schema.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from switch_proxy.core.config.models import Settings

_HIGHEST_PORT: Final = 65535

_PROBE_TIMEOUT: Final = 2.0
"""Seconds. An admin listener on loopback that takes longer has a problem; kubelet waits for 1 s by default."""


class ExitCode(IntEnum):
    """The exit codes of all commands; docs/configuration.md explains them to operators."""

    OK = 0
    FAILED = 1
    """The command was tried and failed: an address is taken, a token is refused, the proxy is not ready."""
    CONFIGURATION = 2
    """The configuration or the command line is invalid; nothing was started."""
    INTERRUPTED = 130
    """Ended by Ctrl-C before it was done, or immediately by a second Ctrl-C (128 + SIGINT, as in shells)."""
    QUIT = 131
    """Ended immediately by a second SIGQUIT (128 + SIGQUIT)."""
    TERMINATED = 143
    """Ended immediately by a second SIGTERM (128 + SIGTERM)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command in `arguments` (by default the process's) and return its exit code."""
    # A file name or key that is not UTF-8 must be printable in an error.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    options = make_parser().parse_args(arguments)
    try:
        code = _COMMANDS[options.command](options)
        if sys.stdout is not None:  # It is None if the process was started with it closed.
            sys.stdout.flush()
    except ConfigurationError as error:
        _print_problems(error)
        return ExitCode.CONFIGURATION
    except SwitchProxyError as error:
        print(f"switch-proxy: {error}", file=sys.stderr)
        return ExitCode.FAILED
    except KeyboardInterrupt:
        print(file=sys.stderr)  # The terminal has ^C on this line.
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader of the output is gone (`| head`). The rest of the buffer must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED
    return code


# --- the commands --------------------------------------------------------------------------------------------------


def _run(options: argparse.Namespace) -> int:
    from switch_proxy.harmless_signals import ignore_harmless_signals

    ignore_harmless_signals()
    from switch_proxy.settings import load

    settings = load(options.config, os.environ)
    # After the settings, so that errors in them are reported quickly.
    with _without_system_certificates():
        from switch_proxy.process import run

    return run(settings)


@contextmanager
def _without_system_certificates() -> Iterator[None]:
    """
    Import aiohttp without the system's certificates.

    It reads them twice at import, for contexts that nothing here uses: the proxy makes its own in the unchanged
    environment. That would be a third of the import's time, and 2 MB.
    """
    names = ("SSL_CERT_FILE", "SSL_CERT_DIR")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    os.environ.update(dict.fromkeys(names, os.devnull))
    try:
        yield
    finally:
        for name in names:
            del os.environ[name]
        os.environ.update(kept)


def _check(options: argparse.Namespace) -> int:
    from switch_proxy.settings import find_file, load

    path = find_file(options.config, os.environ)
    settings = load(path, os.environ)
    if options.request is not None:
        return _try_request(settings, options.request)
    from switch_proxy.check import explain

    for line in explain(settings, source=str(path), environ=os.environ):
        print(line)
    if not options.online:
        return ExitCode.OK
    has_store = _try_store(settings)
    return _try_credentials(settings) if has_store else max(_try_credentials(settings), ExitCode.FAILED)


def _try_request(settings: Settings, request: str) -> int:
    from switch_proxy.core.config.listeners import effective_listeners
    from switch_proxy.core.policy.trial import try_request

    trial = try_request(effective_listeners(settings), request)
    print(*trial.lines, sep="\n")
    return ExitCode.OK if trial.is_forwarded else ExitCode.FAILED


def _try_store(settings: Settings) -> bool:
    import asyncio

    from switch_proxy.check import try_store

    store = settings.token_store_in_use
    if store is None:
        return True
    fault = asyncio.run(try_store(store, os.environ))
    print(
        "\nthe token store can be used" if fault is None else f"\nthe token store cannot be used\n  {fault}", flush=True
    )
    return fault is None


def _try_credentials(settings: Settings) -> int:
    import asyncio

    from switch_proxy.check import try_credential

    has_all_tokens = True
    for name, credential in settings.credentials.items():
        print(flush=True)  # People read what is known so far while the next token is fetched.
        attempt = asyncio.run(try_credential(name, credential, os.environ))
        has_all_tokens &= attempt.has_token
        print(*attempt.lines, sep="\n")
    return ExitCode.OK if has_all_tokens else ExitCode.FAILED


def _schema(_: argparse.Namespace) -> int:
    import json

    from switch_proxy.core.config.json_schema import configuration_schema

    print(json.dumps(configuration_schema(), indent=2, ensure_ascii=False))
    return ExitCode.OK


def _demo(options: argparse.Namespace) -> int:
    from switch_proxy.demo.run import Places, main

    places = Places(
        host=options.host,
        proxy=options.proxy_port,
        admin=options.admin_port,
        auth_server=options.auth_server_port,
        switch_api=options.switch_api_port,
    )
    return main(
        once=options.once,
        serve=options.serve,
        places=places,
        client_secret=options.client_secret,
        lifetime=options.lifetime,
        has_quota=not options.no_quota,
        quota_lag=options.quota_lag,
    )


def _health(options: argparse.Namespace) -> int:
    from switch_proxy.probe import ProbeError, probe
    from switch_proxy.settings import load_admin_address

    address = load_admin_address(options.config, os.environ)
    if address is None:
        print("switch-proxy: admin.listen is off, so the proxy has no health endpoint", file=sys.stderr)
        return ExitCode.CONFIGURATION
    try:
        print(probe(address, path="/livez" if options.live else "/readyz", timeout=options.timeout))
    except ProbeError as error:
        print(f"switch-proxy: {error}", file=sys.stderr)
        return ExitCode.FAILED
    return ExitCode.OK


def _refresh(options: argparse.Namespace) -> int:
    from switch_proxy.probe import ProbeError, probe
    from switch_proxy.settings import load_admin_address

    address = load_admin_address(options.config, os.environ)
    if address is None:
        print("switch-proxy: admin.listen is off; send SIGHUP to the proxy instead", file=sys.stderr)
        return ExitCode.CONFIGURATION
    try:
        probe(address, path="/refresh", method="POST", timeout=options.timeout)
    except ProbeError as error:
        print(f"switch-proxy: {error}", file=sys.stderr)
        return ExitCode.FAILED
    print(
        "the proxy reads its secrets again, and tries refused credentials at once; its log and /readyz have the outcome"
    )
    return ExitCode.OK


def _version(_: argparse.Namespace) -> int:
    print(f"switch-proxy {__version__}")
    return ExitCode.OK


_COMMANDS: Final[Mapping[str, Callable[[argparse.Namespace], int]]] = {
    "run": _run,
    "check": _check,
    "demo": _demo,
    "health": _health,
    "refresh": _refresh,
    "schema": _schema,
    "version": _version,
}


# --- the arguments -------------------------------------------------------------------------------------------------


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; a test compares docs/configuration.md with it."""
    parser = argparse.ArgumentParser(
        prog="switch-proxy",
        description="Forwards an app's plain HTTP requests to an API, with a fresh OAuth 2.0 access token on each.",
        epilog="Exit codes: 0 done, 1 tried and failed, 2 invalid configuration or arguments, 130, 131 and 143 ended by a signal.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"switch-proxy {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, purpose: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.", allow_abbrev=False
        )

    run = command("run", "run the proxy until SIGTERM or SIGINT")
    check = command("check", "check the configuration and explain it, without network")
    demo = command("demo", "show the proxy at work between an app and fakes of both servers")
    health = command("health", "ask a running proxy on this machine whether it is ready: exit code 0 if so, else 1")
    refresh = command("refresh", "have a running proxy read its secrets again and try refused credentials at once")
    command("schema", "print the JSON Schema of the configuration, for editors")
    command("version", "print the version")

    for with_configuration in (run, check, health, refresh):
        with_configuration.add_argument(
            "--config",
            type=Path,
            metavar="FILE",
            help="the configuration; by default the file named in the variable SWITCH_PROXY_CONFIG",
        )
    check.add_argument(
        "--request",
        metavar="REQUEST",
        help="instead, tell what would become of a request such as 'GET /api/x': which route and rule take it; nothing is sent",
    )
    check.add_argument(
        "--online",
        action="store_true",
        help="also reach the token store, fetch one token with each credential and describe it (never the token itself)",
    )
    _add_demo_arguments(demo)
    health.add_argument(
        "--live", action="store_true", help="ask whether it is alive (/livez) instead of ready (/readyz)"
    )
    for with_timeout in (health, refresh):
        with_timeout.add_argument(
            "--timeout",
            type=_seconds,
            default=_PROBE_TIMEOUT,
            metavar="SECONDS",
            help="longest time to wait (%(default)gs)",
        )
    return parser


def _add_demo_arguments(demo: argparse.ArgumentParser) -> None:
    manner = demo.add_mutually_exclusive_group()
    manner.add_argument(
        "--once", action="store_true", help="end after the script: exit 0 if every check passes, else 1"
    )
    manner.add_argument(
        "--serve", action="store_true", help="only serve, without the script: to try your own app against the fakes"
    )
    demo.add_argument(
        "--host", default="127.0.0.1", metavar="HOST", help="address to listen on (%(default)s); 0.0.0.0 in a container"
    )
    for part in ("proxy", "admin", "auth-server", "switch-api"):
        demo.add_argument(
            f"--{part}-port",
            type=_port,
            default=0,
            metavar="PORT",
            help="port of this part; 0, the default, is any free port",
        )
    demo.add_argument(
        "--client-secret",
        type=_text,
        metavar="SECRET",
        help="made-up secret that the fake authorization server accepts, for use by another proxy (by default random)",
    )
    demo.add_argument(
        "--lifetime",
        type=_seconds,
        metavar="SECONDS",
        help="token lifetime; the demo script uses its own (60s after it, 24h with --serve)",
    )
    demo.add_argument(
        "--no-quota",
        action="store_true",
        help="with --serve: grant any number of tokens, not 10 an hour and 50 a day as in production",
    )
    demo.add_argument(
        "--quota-lag",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="with --serve: count a token this long after it was granted, as real servers do (by default at once)",
    )


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > _HIGHEST_PORT:
        raise argparse.ArgumentTypeError("not a port; write a number from 0 to 65535")
    return int(text)


def _text(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("empty; leave the option out for a random secret")
    return text


def _seconds(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except InvalidValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error.predicate}") from None
    if seconds <= 0:
        raise argparse.ArgumentTypeError("not above 0; write a duration such as 2s")
    return seconds


def _print_problems(error: ConfigurationError) -> None:
    print(error, file=sys.stderr)
    count = len(error.problems)
    problems = "1 problem" if count == 1 else f"{count} problems"
    print(f"switch-proxy: {problems} in the configuration; nothing was started", file=sys.stderr)
