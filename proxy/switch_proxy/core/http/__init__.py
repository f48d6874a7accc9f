"""
HTTP/1.1 as pure functions: heads, framing, targets, chunks and the proxy's own answers, on bytes.

It knows RFC 9110 and RFC 9112 and nothing of sockets, connections or clocks. The data plane (`switch_proxy.http1`)
feeds it bytes and sends what it returns.
"""
