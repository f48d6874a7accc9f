"""
Text that must not be seen: client secrets, access tokens, assertions.

A `Secret` is masked wherever it may land by accident: `repr`, `str`, `format`, f-strings, tracebacks with locals. It
cannot be pickled, and is compared in constant time. `reveal()` is the one way to the value, easy to search for.
"""

from __future__ import annotations

from hmac import compare_digest
from typing import Final, NoReturn, SupportsIndex, final

_MASK: Final = "[secret]"


@final
class Secret:
    """Holds a text and shows it to `reveal()` alone."""

    __slots__ = ("_value",)
    _value: str

    def __init__(self, value: str) -> None:
        object.__setattr__(self, "_value", value)

    def reveal(self) -> str:
        """Return the text. What it is put into is no longer masked."""
        return self._value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return compare_digest(_encode(self._value), _encode(other._value))

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __repr__(self) -> str:
        return f"Secret({_MASK})"

    def __str__(self) -> str:
        return _MASK

    def __format__(self, specification: str) -> str:
        return format(_MASK, specification)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a Secret cannot be changed; make another")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a Secret cannot be changed; make another")

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a Secret cannot be pickled: the pickle would hold it in the clear")


def _encode(value: str) -> bytes:
    # What came from the environment may hold lone surrogates (PEP 383).
    return value.encode("utf-8", "surrogatepass")
