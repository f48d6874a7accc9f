"""
The data plane: HTTP/1.1 between an app on localhost and one upstream origin, with the bearer token added.

    listener.py              binds, accepts, watches the clock, drains
    client_connection.py     one client connection: requests in, in order
    exchange.py              one request and its response, from head to head and end to end; read this first
    response_buffer.py       a 401 that waits for what a newer token brings
    tunnel.py                what an exchange becomes after 101
    upstream_connection.py   one connection to the upstream
    pool.py                  which upstream connection next
    connector.py             how a new one is opened: names, addresses, TLS
    connect_proxy.py         the tunnel through an egress proxy
    peer_liveness.py         whether a client that ended its side has closed
    context.py               what all exchanges of a route share

A connection is an asyncio protocol and an exchange is told of its events by plain calls: bytes that arrive on one side
are written to the other in the same call, without a task, a future or a copy in between. Only what must be waited for
(a token, a new connection) is a coroutine. What is to be sent, refused or repeated is decided in `switch_proxy.core.http`.
"""
