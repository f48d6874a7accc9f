"""Messages as a peer sees them, read by rules of the tests' own: what they share with the proxy is the RFC alone."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Head:
    """A head: its start line and its field lines, as received."""

    raw: bytes
    start: bytes
    lines: tuple[bytes, ...]

    def values(self, name: str) -> list[bytes]:
        """Return the values of all lines of that name, in order."""
        wanted = name.lower().encode()
        pairs = [line.split(b":", 1) for line in self.lines]
        return [value.strip(b" \t") for line_name, value in pairs if line_name.lower() == wanted]

    def value(self, name: str) -> bytes | None:
        """Return the value of the one line of that name, or None; more than one fails the test."""
        values = self.values(name)
        assert len(values) <= 1, f"{name} is there {len(values)} times"
        return values[0] if values else None

    def without(self, *names: str) -> list[bytes]:
        """Return the lines that have other names than these."""
        unwanted = {name.lower().encode() for name in names}
        return [line for line in self.lines if line.split(b":", 1)[0].lower() not in unwanted]

    @property
    def passed(self) -> list[bytes]:
        """Return the lines that a request brought along: without those that the proxy writes."""
        return self.without("Host", "Authorization", "X-Request-Id", "Via")

    @property
    def status(self) -> int:
        """Return the status code of a response."""
        return int(self.start.split(b" ", 2)[1])


def parse_head(raw: bytes) -> Head:
    """Take a head apart that ends in its empty line."""
    assert raw.endswith(b"\r\n\r\n")
    start, *lines = raw[:-4].split(b"\r\n")
    return Head(raw, start, tuple(lines))


@dataclass(frozen=True, slots=True)
class Response:
    """A whole response; `chunks` and `trailers` where it was chunked."""

    head: Head
    body: bytes
    chunks: list[bytes] = field(default_factory=list)
    trailers: list[bytes] = field(default_factory=list)

    @property
    def status(self) -> int:
        """Return the status code."""
        return self.head.status
