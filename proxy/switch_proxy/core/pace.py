"""
How many token requests a process sends at most, whatever the authorization server and the API do.

Each request has a price in seconds, known when its response has come: a token costs the part of its life after which it is replaced,
between SHORTEST_PRICE and LONGEST_PRICE; a failure costs LONGEST_PRICE. Time pays the prices, and up to CREDIT seconds may be
owed. If more is owed, the next request waits. So short waits in a row are possible, as at the start or after an outage, but no
sequence of tokens, errors and refused tokens makes a process ask faster than that for long (the generic cell rate algorithm).

The waits of core/backoff.py and the tokens' lives are usually longer, and this limit is then not noticed: it is for a server
whose responses begin the short waits again and again.
"""

from __future__ import annotations

from typing import Final

from switch_proxy.core.tokens import REFRESH_EARLIEST

SHORTEST_PRICE: Final = 1.5
"""
Seconds: the price of a token that lives two seconds or less. Tokens that live longer are always replaced in time; those that
live shorter are so for five minutes, and then every one and a half seconds.
"""

LONGEST_PRICE: Final = 20.0
"""
Seconds: the price of a failure, and of a token that lives 27 seconds or more. Less than the 30 seconds between two requests of a
long outage (core/backoff.py), so that an outage does not use up the credit.
"""

CREDIT: Final = 600.0
"""Seconds that may be owed: 30 requests without a pause, three times what the first minutes of any outage need."""


def price(lifetime: float | None) -> float:
    """Return the price of a token request that brought a token of this lifetime, in seconds; None if it brought no token."""
    if lifetime is None:
        return LONGEST_PRICE
    return min(LONGEST_PRICE, max(SHORTEST_PRICE, REFRESH_EARLIEST * lifetime))


def pay(paid_until: float, *, began_at: float, lifetime: float | None) -> float:
    """
    Return until when the requests are paid, after one that began at `began_at` and brought a token of this lifetime, if any.

    A request that an operator caused (another secret) may begin earlier than `may_begin_at`. It is not held against the others.
    """
    return min(max(paid_until, began_at), began_at + CREDIT) + price(lifetime)


def may_begin_at(paid_until: float) -> float:
    """Return the moment from which the next token request may begin."""
    return paid_until - CREDIT


def most_requests(within: float, *, shortest_lifetime: float | None) -> int:
    """
    Return how many token requests a process sends at most in any `within` seconds.

    `shortest_lifetime` is that of the shortest-lived token that was granted in this time; None if there is none.
    Requests that an operator causes with another secret are not counted.
    """
    return 1 + int((within + CREDIT) / price(shortest_lifetime))
