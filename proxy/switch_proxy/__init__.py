"""
switch-proxy: a sidecar that lets an app call the Switch API without ever touching a secret.

An app sends plain HTTP to localhost; the proxy adds `Authorization: Bearer …` and forwards to the API over TLS.

    data plane    http1/           HTTP/1.1 between the app and one upstream, the bearer line added
    token plane   tokens/          one task per credential: fetches a token, keeps it fresh, rides out failures
    admin plane   admin/           /livez, /readyz, /metrics on a listener of their own
                  telemetry        what is counted
                  logs/            what is logged, with secrets masked
    in between    record_batcher   finished exchanges, handed on to both in batches

    cli, process, app   the commands; the proxy as a process; the proxy as a whole: what starts and stops when
    settings, check     the configuration, read and looked over; probe asks a running proxy how it is
    clock               time that goes on while the machine sleeps; tests have their own
    tls                 how connections that the proxy opens are secured
    core/               every decision, as pure functions on plain values: no I/O, no clock, no randomness
    demo/               fakes of both servers, for the demo, these tests and yours
    testing, pytest_plugin   the fakes and the proxy in a thread, for tests of apps; pytest's fixtures for it

Imports point one way: cli, testing → check, demo, process → app → the rest, which do not know each other → clock, tls →
core. Where one needs another it says so as a Protocol, and app hands it over. import-linter holds this in `make check`.

Start with core/lifecycle.py (when a token is fetched), http1/exchange.py (what becomes of a request) and app.py.

PYTEST_DONT_REWRITE: pytest would warn of a program that imports this package and then runs pytest.
"""

__version__ = "0.1.0"
