"""
The server's words in our texts: by the members of RFC 6749 §5.2 alone, in printable characters, cut short, and not if they
repeat what authenticates the client. Never its body.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from switch_proxy.core.redaction import repeats

if TYPE_CHECKING:
    from switch_proxy.core.secret import Secret

_LONGEST_QUOTE: Final = 200
"""Characters of the server's words in a text of ours."""

_NOT_FOR_ERRORS: Final = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")  # RFC 6749 §5.2


class ServerWords:
    """Makes the server's words fit to be shown. `credential_name` is what authenticates the client, for people."""

    __slots__ = ("_secret", "credential_name")

    def __init__(self, *, credential_name: str, secret: Secret) -> None:
        self.credential_name = credential_name
        self._secret = secret

    def error(self, members: dict[str, object]) -> str:
        """Return the members of an error response (RFC 6749 §5.2) as one text, empty if there are none."""
        texts = [self.text(members.get(name)) for name in ("error", "error_description", "error_uri")]
        return ": ".join(text for text in texts if text)

    def text(self, value: object) -> str:
        """Return a text in printable ASCII, cut short; empty if it is no text."""
        if not isinstance(value, str):
            return ""
        if repeats(value, self._secret):
            return f"(not shown: it repeats {self.credential_name})"
        return show_words(value)


def show_words(text: str) -> str:
    """Return a server's text in printable ASCII, cut short."""
    shown = _NOT_FOR_ERRORS.sub("?", " ".join(text.split()))
    return shown if len(shown) <= _LONGEST_QUOTE else shown[: _LONGEST_QUOTE - 3] + "..."
