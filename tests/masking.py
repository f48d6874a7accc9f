"""Stand-ins for the redactor, for what reads, fetches and makes secrets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from switch_proxy.core.secret import Secret


def ignore(kind: str, secret: Secret) -> None:
    """Mask nothing: for tests of something else."""


@dataclass(slots=True)
class Masked:
    """Remembers what was to be masked."""

    secrets: list[tuple[str, Secret]] = field(default_factory=list)

    def __call__(self, kind: str, secret: Secret) -> None:
        self.secrets.append((kind, secret))
