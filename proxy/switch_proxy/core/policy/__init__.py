"""
Which route a request is for, and whether it may go on: pure decisions on plain values, made before anything is sent.

    paths.py         how servers could read a path, as segments
    route_table.py   the route of a request, by path and host
    browsers.py      whether a web page that nobody invited may have made a request
    allow_rules.py   what a route with rules forwards
    route_policy.py  what the configuration says of a route, compiled for the two above and below
    admission.py     what becomes of a request: forwarded, refused, answered here, or held until later
    turns.py         when a request may go that is one of many in a time
    trial.py         what would become of a request that nobody sends
"""
