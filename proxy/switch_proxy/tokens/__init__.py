"""
The token plane: keeps one access token per credential fresh.

    manager    one credential's token: asks core/lifecycle.py what to do, and does it
    client     one request to the token endpoint
    sources    secrets, keys and assertions, read from files and variables and watched
"""
