"""
The data plane: HTTP/1.1 between apps on localhost and the upstreams of routes, with the bearer token added.

    listener.py              binds, accepts, watches the clock, drains
    listener_context.py      what all client connections of a listener share; finds the route of a request
    client_connection.py     one client connection: requests in, in order
    client_codec.py          its bytes as requests, and responses as bytes
    exchange.py              one request and its response, from head to head and end to end; read this first
    phase.py                 where an exchange can be, and what follows what
    request_body.py          a body on its way, kept so as to be sent again
    response_buffer.py       a 401 that waits for what a newer token brings
    tunnel.py                what an exchange becomes after 101
    route.py                 what all exchanges of a route share: pool, tokens, header lines, rules, counters
    upstream_connection.py   one connection to the upstream
    upstream_codec.py        requests as bytes, and its bytes as responses
    pool.py                  which upstream connection next
    connector.py             how a new one is opened: names, addresses, TLS
    connect_proxy.py         the tunnel through an egress proxy
    tls_stream.py            TLS on a plain connection, with buffers that all connections share
    peer_liveness.py         whether a client that ended its side has closed
    peers.py                 what these are to each other: the protocols between them

A connection is an asyncio protocol and an exchange is told of its events by plain calls: bytes that arrive on one side
are written to the other in the same call, without a task, a future or a copy in between. Only what must be waited for
(a token, a new connection) is a coroutine. What is to be sent, refused or repeated is decided in `switch_proxy.core.http`
and `switch_proxy.core.policy`.
"""
