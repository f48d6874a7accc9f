"""
The log: one line for each event and each request, on standard output.

Clusters collect standard output, and `switch-proxy run` writes nothing else there.

    log.py           Log: the parts below, opened and closed as one; app.py holds it
    events.py        structlog: events as JSON or for people, and reports of libraries through `logging`
    writer.py        the thread that writes, so that nothing else waits for it
"""
