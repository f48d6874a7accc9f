"""
Bounded fuzzing of everything that reads bytes from a client or an upstream.

    run.py               the runner: `python -m fuzz --seconds 60 --seed 1`
    inputs.py            where heads and bodies come from: good ones, evil ones, and mutations of both
    second_opinion.py    the same bytes as llhttp reads them, through aiohttp's parsers
    wire.py              a strict reader of its own for what the proxy writes
    request_heads.py     target: request heads and the bodies behind them
    response_heads.py    target: response heads and the bodies behind them
    chunked_bodies.py    target: the chunked coding
    exchanges.py         target: whole client connections, with transports in memory

A case is a function of (seed, target, number) alone, so any finding can be repeated by its three names. A target's
`check` raises AssertionError where a promise is broken; any other exception that gets out of it is a finding too.
"""
