"""
The command line: reads arguments, calls the one module that does the work, and returns an exit code.

Each command imports what it needs itself, so that `health` and `version` start at once.
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
from switch_proxy.core.config.units import parse_duration
from switch_proxy.core.errors import ConfigurationError, InvalidValueError, SwitchProxyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from switch_proxy.core.config.models import Settings

_HIGHEST_PORT: Final = 65535

_DEMO_LIFETIME: Final = 60.0
"""Seconds; switch_proxy.demo.run has the reason, and is not imported for it."""

_PROBE_TIMEOUT: Final = 2.0
"""Seconds: an admin listener on loopback that takes longer is not well, and kubelet waits for 1 by default."""


class ExitCode(IntEnum):
    """What the process tells whoever started it; docs/configuration.md has them for operators."""

    OK = 0
    FAILED = 1
    """It was tried and did not work: an address is taken, a token is refused, the proxy is not ready."""
    CONFIGURATION = 2
    """The configuration or the command line cannot be used; nothing was started."""
    INTERRUPTED = 130
    """Ended by Ctrl-C before it was done, or at once by a second one (128 + SIGINT, as shells have it)."""
    TERMINATED = 143
    """Ended at once by a second SIGTERM (128 + SIGTERM)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` (by default the process's) say, and return its exit code."""
    # A file name or a key that is not UTF-8 has to be printable in an error.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    options = make_parser().parse_args(arguments)
    try:
        code = _COMMANDS[options.command](options)
        if sys.stdout is not None:  # It is, where the process was started with it closed.
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
        # Whoever read the output has gone (`| head`). What is left in the buffer must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED
    return code


# --- the commands --------------------------------------------------------------------------------------------------


def _run(options: argparse.Namespace) -> int:
    from switch_proxy.settings import load

    settings = load(options.config, os.environ)
    # After the settings, so that what is wrong with them is told at once.
    with _without_system_certificates():
        from switch_proxy.process import run

    return run(settings)


@contextmanager
def _without_system_certificates() -> Iterator[None]:
    """
    Let aiohttp be imported without the system's certificates.

    It reads them twice when it is imported, for contexts that nothing here uses: the proxy makes its own, with the
    environment as it was. That is a third of the import's time, and 2 MB.
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
    from switch_proxy.check import explain

    for line in explain(settings, source=str(path), environ=os.environ):
        print(line)
    return _try_credentials(settings) if options.online else ExitCode.OK


def _try_credentials(settings: Settings) -> int:
    import asyncio

    from switch_proxy.check import try_credential

    has_all_tokens = True
    for name, credential in settings.credentials.items():
        print(flush=True)  # What is known so far is read while the next token is on its way.
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
    )


def _health(options: argparse.Namespace) -> int:
    from switch_proxy.probe import ProbeError, probe
    from switch_proxy.settings import load_admin_address

    address = load_admin_address(options.config, os.environ)
    if address is None:
        print("switch-proxy: admin.listen is off, so there is nothing to ask", file=sys.stderr)
        return ExitCode.CONFIGURATION
    try:
        print(probe(address, path="/livez" if options.live else "/readyz", timeout=options.timeout))
    except ProbeError as error:
        print(f"switch-proxy: {error}", file=sys.stderr)
        return ExitCode.FAILED
    return ExitCode.OK


def _version(_: argparse.Namespace) -> int:
    print(f"switch-proxy {__version__}")
    return ExitCode.OK


_COMMANDS: Final[Mapping[str, Callable[[argparse.Namespace], int]]] = {
    "run": _run,
    "check": _check,
    "demo": _demo,
    "health": _health,
    "schema": _schema,
    "version": _version,
}


# --- the arguments -------------------------------------------------------------------------------------------------


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; docs/configuration.md is held to what it knows."""
    parser = argparse.ArgumentParser(
        prog="switch-proxy",
        description="Forwards an app's plain HTTP requests to an API, with a fresh OAuth 2.0 access token on each.",
        epilog="Exit codes: 0 done, 1 tried and failed, 2 unusable configuration or arguments, 130 and 143 ended by a signal.",
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
    command("schema", "print the JSON Schema of the configuration, for editors")
    command("version", "print the version")

    for with_configuration in (run, check, health):
        with_configuration.add_argument(
            "--config",
            type=Path,
            metavar="FILE",
            help="the configuration; without it, the file that the variable SWITCH_PROXY_CONFIG names",
        )
    check.add_argument(
        "--online",
        action="store_true",
        help="fetch one token with each credential as well, and tell what it is like (never the token itself)",
    )
    _add_demo_arguments(demo)
    health.add_argument(
        "--live", action="store_true", help="ask whether it is alive (/livez) instead of ready (/readyz)"
    )
    health.add_argument(
        "--timeout",
        type=_seconds,
        default=_PROBE_TIMEOUT,
        metavar="SECONDS",
        help="wait at most so long (%(default)gs)",
    )
    return parser


def _add_demo_arguments(demo: argparse.ArgumentParser) -> None:
    manner = demo.add_mutually_exclusive_group()
    manner.add_argument(
        "--once", action="store_true", help="end after the script: exit code 0 if all was as it must be, else 1"
    )
    manner.add_argument(
        "--serve", action="store_true", help="leave the script out, only serve: to try an app of yours against"
    )
    demo.add_argument(
        "--host", default="127.0.0.1", metavar="HOST", help="listen there (%(default)s); 0.0.0.0 in a container"
    )
    for part in ("proxy", "admin", "auth-server", "switch-api"):
        demo.add_argument(
            f"--{part}-port",
            type=_port,
            default=0,
            metavar="PORT",
            help="port of that part; 0, the default, is any free one",
        )
    demo.add_argument(
        "--client-secret",
        type=_text,
        metavar="SECRET",
        help="made-up secret that the fake authorization server takes, for another proxy before it (random otherwise)",
    )
    demo.add_argument(
        "--lifetime",
        type=_seconds,
        default=_DEMO_LIFETIME,
        metavar="SECONDS",
        help="tokens live so long, but for those of the script (%(default)gs)",
    )


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > _HIGHEST_PORT:
        raise argparse.ArgumentTypeError("not a port; write a number from 0 to 65535")
    return int(text)


def _text(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("empty; leave the option out for a random one")
    return text


def _seconds(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except InvalidValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error.predicate}") from None
    if seconds <= 0:
        raise argparse.ArgumentTypeError("no time at all; write a duration above 0")
    return seconds


def _print_problems(error: ConfigurationError) -> None:
    print(error, file=sys.stderr)
    count = len(error.problems)
    problems = "1 problem" if count == 1 else f"{count} problems"
    print(f"switch-proxy: {problems} in the configuration; nothing was started", file=sys.stderr)
