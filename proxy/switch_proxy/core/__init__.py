"""
The decisions of switch-proxy, as pure functions on plain values: no I/O, no clock, no randomness, no log.

Time and random numbers are passed in. The modules that act on the world are one folder up and call these functions.
"""
