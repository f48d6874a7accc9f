"""A fake's requests and responses as plain values; their reprs show no secret."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl

_MASKED_FIELDS = frozenset({"authorization", "proxy-authorization", "cookie"})


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ReceivedRequest:
    """
    One request as received.

    Its repr masks credentials and shows only the size of the body; the attributes hold what was sent.
    """

    method: str
    target: str
    """The request target byte for byte, not decoded (bytes that are not UTF-8 are surrogate escapes)."""
    fields: tuple[tuple[str, str], ...]
    """The header field lines in order, names in the sender's case, decoded as latin-1, which is lossless."""
    body: bytes
    is_complete: bool
    """False if the client broke off before the end of the body."""
    peer: tuple[str, int]
    """Address and port of the client. Two requests with the same peer came on the same connection."""
    received_at: float
    """When the last byte of the request was received, by the fake's clock (seconds)."""

    @property
    def path(self) -> str:
        """Return the target up to the question mark, still percent-encoded."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """Return the target after the question mark, still percent-encoded."""
        return self.target.partition("?")[2]

    @property
    def parameters(self) -> tuple[tuple[str, str], ...]:
        """Return the query's parameters in order, decoded, repeated ones as often as they were sent."""
        return tuple(parse_qsl(self.query, keep_blank_values=True))

    def values(self, name: str) -> tuple[str, ...]:
        """Return the values of every field line called `name`, in order; names are compared without case."""
        wanted = name.lower()
        return tuple(value for field, value in self.fields if field.lower() == wanted)

    def value(self, name: str) -> str | None:
        """Return the value of the first field line called `name`, or None."""
        return next(iter(self.values(name)), None)

    @property
    def bearer_token(self) -> str | None:
        """Return the token of the only `Authorization` line; None if there are none or several, or the scheme differs."""
        lines = self.values("authorization")
        if len(lines) != 1:
            return None
        scheme, _, token = lines[0].partition(" ")
        return token.strip() if scheme.lower() == "bearer" else None

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}: {_masked(name, value)}" for name, value in self.fields)
        cut = "" if self.is_complete else ", cut short"
        return f"<ReceivedRequest {self.method} {self.target} [{shown}] {len(self.body)} bytes{cut}>"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Response:
    """
    A fake's response: status, field lines in order, body.

    The repr leaves out the body, which may hold a token.
    """

    status: int
    fields: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def with_field(self, name: str, value: str) -> Response:
        """Return this response with every field line called `name` replaced by one with this value."""
        kept = tuple(field for field in self.fields if field[0].lower() != name.lower())
        return Response(status=self.status, fields=(*kept, (name, value)), body=self.body)

    def with_body(self, body: bytes) -> Response:
        """Return this response with another body."""
        return Response(status=self.status, fields=self.fields, body=body)

    def __repr__(self) -> str:
        return f"<Response {self.status} {len(self.body)} bytes>"


def _masked(name: str, value: str) -> str:
    if name.lower() not in _MASKED_FIELDS:
        return value
    scheme, separator, _ = value.partition(" ")
    return f"{scheme} [masked]" if separator else "[masked]"
