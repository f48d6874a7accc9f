"""
switch-proxy: a sidecar that lets an app call the Switch API without ever touching a secret.

An app sends plain HTTP to localhost; the proxy adds `Authorization: Bearer …` and forwards to the API over TLS.

    data plane    http1/           HTTP/1.1 between the app and the upstreams, with the bearer line added
    token plane   tokens/          one task per credential: fetches a token, refreshes it, retries failures
    admin plane   admin/           /livez, /readyz, /metrics on their own listener
                  readiness        watches whether the proxy is ready, and logs each change
                  telemetry        the metrics
                  logs/            the log, with secrets masked
    in between    record_batcher   passes finished exchanges to both in batches

    cli, process, app   the commands; the proxy as a process; the proxy as a whole, with the orders of start and stop
    settings, check     read the configuration; explain it. probe asks a running proxy whether it is ready
    clock               time that continues while the machine sleeps; tests have their own
    tls, watched_files  TLS contexts from files; files that are read again when they change
    core/               every decision, as pure functions on plain values: no I/O, no clock, no randomness
    demo/               fakes of both servers, for the demo, these tests and yours
    testing, pytest_plugin   the fakes and the proxy in a thread, for tests of apps; the pytest fixtures

Imports point one way: cli, testing → check, demo, process → app → the rest, which do not import each other → tls →
watched_files → clock → core. If one needs another, it declares a Protocol, and app passes the object in. import-linter
checks this in `make check`.

Start with core/lifecycle.py (when a token is fetched), http1/exchange.py (what happens to a request) and app.py.

PYTEST_DONT_REWRITE: otherwise pytest warns if a program imports this package and then runs pytest.
"""

__version__ = "0.1.0"
