"""
OAuth 2.0 for one grant, client credentials (RFC 6749 §4.4): what is sent to an authorization server, and what comes back.

    request.py          the token request
    response.py         any response of the server as it was received, and readers of its parts
    token_response.py   what a token response means: a grant, or an error with a reason that a person can act on
    quoting.py          the server's words in our texts, made safe
    discovery.py        the token endpoint, found by the issuer's metadata (RFC 8414)

How the client authenticates is in core/authentication.
"""
