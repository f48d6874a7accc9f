"""
The soak: minutes of small requests through the real proxy process, while everything about its tokens goes wrong.

    promises   what may fail and what may be asked of the token endpoint, as plain values
    load       the requests, and what became of each
    watched    the proxy's process: its memory and its descriptors
    run        the troubles, one after the other, and the verdict

`make soak SECONDS=300`; the exit code is 1 where a promise was broken.
"""
