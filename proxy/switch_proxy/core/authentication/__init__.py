"""
How the client authenticates at the token endpoint: one file for each `auth_method`, and what they have in common.

    method.py               what a method says of itself
    registry.py             all methods by name; the only place that distinguishes them
    client_secret.py        the section `client_secret`, for the three methods that have one
    client_secret_post.py, client_secret_basic.py, client_secret_jwt.py
    private_key_jwt.py      with the section `private_key`
    tls_client_auth.py      a client certificate; also self_signed_tls_client_auth
    client_assertion.py     a JWT that somebody else signs, with the section `client_assertion`
    assertion.py            how a JWT is sent, for those that send one
    signing.py              makes a JWT; brings cryptography, and is imported late
"""
