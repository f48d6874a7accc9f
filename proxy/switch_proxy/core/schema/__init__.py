"""
What the sections of the configuration are written with, below all of them.

    keys.py      a key: its text, its reason, and the rule of its value
    rules.py     the rules of values
    units.py     durations and sizes
    problem.py   one mistake in a configuration, with its place
"""
