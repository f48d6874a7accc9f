"""
The server's words in our texts: by the members of RFC 6749 §5.2 alone, in printable characters, cut short, and not if they
repeat a secret: what authenticates the client, any token that is in use, or one of the response itself. Never its body.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from switch_proxy.core.redaction import find_repeated
from switch_proxy.core.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LONGEST_QUOTE: Final = 200
"""Characters of the server's words in a text of ours."""

_LONGEST_SEARCHED: Final = 4096
"""Characters of the server's words that are looked at, so that a long text does not hold up anything."""

_NOT_FOR_ERRORS: Final = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")  # RFC 6749 §5.2

_SECRET_NAME: Final = re.compile(r".*(?:token|secret|assertion|password|jwt)", re.IGNORECASE | re.DOTALL)
"""
Members of a response that are secrets themselves: `access_token`, `refresh_token`, `id_token` (RFC 6749 §5.1, OpenID Connect Core
§3.1.3.3), and what servers call them that do not know these names.
"""

_DEEPEST: Final = 8
"""Levels of a response in which such members are looked for. Real ones have one to three."""


class ServerWords:
    """
    Makes the server's words fit to be shown.

    `credential_name` is what authenticates the client, for people, and `secret` its value; `refusal_hint` is what else to
    check if it is refused. `others` are all other secrets that must not be shown.
    """

    __slots__ = ("_others", "_secret", "credential_name", "refusal_hint")

    def __init__(
        self, *, credential_name: str, secret: Secret, others: Iterable[Secret] = (), refusal_hint: str = ""
    ) -> None:
        self.credential_name = credential_name
        self.refusal_hint = refusal_hint
        self._secret = secret
        self._others = tuple(others)

    def of(self, document: dict[str, object]) -> ServerWords:
        """Return these words for texts of a response with this document: its tokens are secrets too."""
        tokens = map(Secret, _secrets_in(document, _DEEPEST))
        return ServerWords(
            credential_name=self.credential_name,
            secret=self._secret,
            others=(*self._others, *tokens),
            refusal_hint=self.refusal_hint,
        )

    def error(self, members: dict[str, object]) -> str:
        """Return the members of an error response (RFC 6749 §5.2) as one text, empty if there are none."""
        texts = [self.text(members.get(name)) for name in ("error", "error_description", "error_uri")]
        return ": ".join(text for text in texts if text)

    def text(self, value: object) -> str:
        """Return a text in printable ASCII, cut short; empty if it is no text."""
        if not isinstance(value, str):
            return ""
        value = value[:_LONGEST_SEARCHED]
        if (fault := self.find_fault(value)) is not None:
            return f"(not shown: {fault})"
        shown = _NOT_FOR_ERRORS.sub("?", " ".join(value.split()))
        return shown if len(shown) <= _LONGEST_QUOTE else shown[: _LONGEST_QUOTE - 3] + "..."

    def find_fault(self, text: str) -> str | None:
        """Return why a text must not be shown; None if it may be."""
        found = find_repeated(text, (self._secret, *self._others))
        if found is None:
            return None
        return f"it repeats {self.credential_name if found is self._secret else 'a token or another secret'}"


def _secrets_in(value: object, levels: int) -> Iterator[str]:
    """Return the texts of all members whose names say that they are secrets."""
    if levels == 0:
        return
    if isinstance(value, dict):
        for name, item in value.items():
            if isinstance(item, str):
                if item and _SECRET_NAME.fullmatch(name):
                    yield item
            else:
                yield from _secrets_in(item, levels - 1)
    elif isinstance(value, list):
        for item in value:
            yield from _secrets_in(item, levels - 1)
