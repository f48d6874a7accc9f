"""
The soak: minutes of small requests through the real proxy process, while its token requests fail in every way.

    promises   which requests may fail, and how many token requests are allowed, as plain values
    load       the requests and their outcomes
    watched    the proxy's process: its memory and its file descriptors
    run        the disturbances, one after the other, and the verdict

`make soak SECONDS=300`; the exit code is 1 if a promise was broken.
"""
