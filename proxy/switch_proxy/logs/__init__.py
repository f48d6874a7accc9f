"""
What the proxy says while it runs: one line for each event and each request, on standard output.

Standard output, for that is what a cluster collects, and nothing else is ever written there by `switch-proxy run`.

    log.py           Log: the parts below, opened and closed as one; what app.py holds
    events.py        structlog: events, as JSON or for people, and what libraries report through `logging`
    writer.py        the thread that writes, so that nobody else waits or fails for it
"""
