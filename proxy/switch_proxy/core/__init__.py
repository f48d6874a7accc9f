"""
What switch-proxy decides, as pure functions on plain values: no I/O, no clock, no randomness, no log.

Time and random numbers are passed in. Everything that acts on the world is one folder up and asks here what to do.
"""
