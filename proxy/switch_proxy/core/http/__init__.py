"""
HTTP/1.1 as pure functions on bytes. It knows RFC 9110 and RFC 9112 and nothing of sockets, connections or clocks.

    grammar.py            the character rules
    fields.py             a field section as checked lines
    header_rules.py       which header lines pass, are replaced and are added
    request.py            request heads
    response.py           response heads
    chunked.py            the chunked coding
    target.py             the target at the upstream
    resend.py             when a request is sent a second time
    deadlines.py          which time limit has passed, and whose fault that is
    problems.py           the proxy's own responses
    www_authenticate.py   what a 401 or 403 is about
"""
