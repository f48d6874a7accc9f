"""
Whether a request may have been made by a web page that nobody invited, in a browser on this machine.

A browser lets every page send requests to loopback, where a local server takes them for its user's own. Two things give
such a request away, because no page can change them: the host that it names, if a name of the attacker's leads to loopback
(DNS rebinding), and what the browser says about the page's origin (RFC 6454 §7, Fetch Metadata). Programs other than
browsers send neither, but may name their own target as the origin, as WebSocket clients do.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from switch_proxy.core.addresses import is_loopback_host
from switch_proxy.core.http.problems import Problem, Reject

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

ANY: Final = "*"
"""Among the allowed hosts or origins: what switches the check off."""

_OWN_SITES: Final = frozenset({b"none", b"same-origin"})
"""`none` is a person's own doing: an address that was typed, a bookmark."""

_NAME_WITHOUT_DOT: Final = re.compile(rb"(?=[^a-z]{0,62}[a-z])[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?")
"""With a letter: browsers take a number for an IPv4 address."""

_LONGEST_SHOWN: Final = 253
"""Characters of a name that a message repeats: as long as one in DNS."""


class BrowserGuard:
    """
    Judges what comes in over loopback for one listener.

    `hosts`: names in lower case, without port, that are the listener's beside those of loopback. `origins`: of pages that may
    send requests. ANY in one of them switches its check off. `owner`: whose keys a message advises to change.
    """

    __slots__ = ("_hosts", "_origins", "_owner")

    def __init__(self, *, hosts: Collection[str], origins: Collection[str], owner: str) -> None:
        self._hosts = None if ANY in hosts else frozenset(host.encode("ascii") for host in hosts)
        self._origins = None if ANY in origins else frozenset(origin.encode("ascii") for origin in origins)
        self._owner = owner

    def judge(
        self, *, host: bytes | None, authority: bytes, origins: Sequence[bytes], sites: Sequence[bytes]
    ) -> Reject | None:
        """
        Return the refusal of a request, None if it may go on.

        `host`: what `authority`, the value of Host, names, in lower case and without port; None for no Host, which no
        browser leaves out. `origins` and `sites`: the values of Origin and Sec-Fetch-Site.
        """
        if host is not None and self._hosts is not None and host not in self._hosts and not _is_nobodys(host):
            return Reject(
                problem=Problem.HOST_NOT_ALLOWED,
                detail=f"the request came in over loopback for the host {_shown(host)}, as that of a web page in a browser on "
                f"this machine could (DNS rebinding); if the name is meant for this proxy, add it to allowed_hosts of "
                f"{self._owner}",
            )
        if self._origins is None or not (origins or sites):
            return None
        is_own_site = all(site.lower() in _OWN_SITES for site in sites)
        for origin in origins:
            if origin.lower() not in self._origins and not (is_own_site and _is_own(origin, authority)):
                return self._refuse_page(f"a page of the origin {_shown(origin)}", "add the origin to")
        if not origins and not is_own_site:
            return self._refuse_page(
                "a page of another site (Sec-Fetch-Site)", "have it sent with an Origin that is in"
            )
        return None

    def _refuse_page(self, page: str, advice: str) -> Reject:
        return Reject(
            problem=Problem.ORIGIN_NOT_ALLOWED,
            detail=f"the request was made by {page} in a browser on this machine; if the page may use this proxy, {advice} "
            f"allowed_origins of {self._owner}",
        )


def _is_nobodys(host: bytes) -> bool:
    """
    Return whether a host is of loopback, or a name without a dot.

    Nobody can register a name without a dot (SAC 053), so no page of the internet has one. Apps use them as aliases of
    loopback: in /etc/hosts, in Compose files, in `hostAliases` of a pod.
    """
    return is_loopback_host(host.decode("ascii", "replace")) or _NAME_WITHOUT_DOT.fullmatch(host) is not None


def _is_own(origin: bytes, authority: bytes) -> bool:
    """Say whether a page of this origin has come from the very address that the request is for."""
    return origin.lower() == b"http://" + authority.lower()


def _shown(text: bytes) -> str:
    shown = text[:_LONGEST_SHOWN].decode("ascii", "replace")
    return shown if len(text) <= _LONGEST_SHOWN else f"{shown}…"
