"""What happens to credentials, told: each event becomes a line, and each new secret and token is masked from then on."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from switch_proxy.core.credential_events import (
    SecretBroken,
    SecretRefused,
    SecretReloaded,
    SecretRestored,
    TokenRefreshed,
    TokenRefreshFailed,
)

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from switch_proxy.core.credential_events import CredentialEvent
    from switch_proxy.core.redaction import Redactor


class CredentialLog:
    """Writes the events of all credentials; never the secret or the token in them."""

    def __init__(self, *, events: FilteringBoundLogger, redactor: Redactor) -> None:
        self._events = events
        self._redactor = redactor

    def on_event(self, event: CredentialEvent) -> None:
        """Log what has happened."""
        log = self._events.bind(credential=event.credential)
        match event:
            case TokenRefreshed():
                self._redactor.learn(f"token of {event.credential}", event.token.value)
                log.info(
                    event.name,
                    generation=event.token.generation,
                    lifetime=_rounded(event.lifetime),
                    refresh_in=_rounded(event.refresh_in),
                    duration=_rounded(event.duration),
                    after_failures=event.after_failures,
                )
            case TokenRefreshFailed():
                # Once for each kind of trouble, not at every try: what goes on is no news.
                (log.warning if event.is_news else log.debug)(
                    event.name,
                    outcome=event.outcome,
                    error=event.error,
                    retry_in=_rounded(event.retry_in),
                    duration=_rounded(event.duration),
                    consecutive_failures=event.consecutive_failures,
                    token_usable_for=None if event.usable_for is None else _rounded(event.usable_for),
                    **_refusal(event),
                )
            case SecretReloaded():
                for secret in (*event.others, event.secret):
                    self._redactor.learn(f"secret of {event.credential}", secret)
                log.info(event.name, source=event.source, is_first=event.is_first)
            case SecretBroken():
                log.warning(event.name, source=event.source, error=event.error, has_last_good=event.has_last_good)
            case SecretRestored():
                log.info(event.name, source=event.source)
            case SecretRefused():
                (log.warning if event.is_news else log.debug)(
                    event.name, source=event.source, error=event.error, used_instead="the previous secret"
                )
            case _:
                assert_never(event)


def _refusal(event: TokenRefreshFailed) -> dict[str, object]:
    """Return what is told besides where the client itself is refused: since when, and what would end it."""
    if event.refused_for is None:
        return {}
    return {"refused_for": _rounded(event.refused_for), "awaits": event.awaits}


def _rounded(seconds: float) -> float:
    return round(seconds, 3)
