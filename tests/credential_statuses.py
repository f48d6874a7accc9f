"""Statuses of a credential in the states that tests of health, admin and metrics are about; the clock says NOW."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from switch_proxy.core.health import HealthSnapshot, ListenerHealth
from switch_proxy.core.lifecycle import CredentialStatus, SharedStoreStatus
from switch_proxy.core.quota import QuotaBucket
from switch_proxy.core.tokens import Freshness

NOW: Final = 5000.0
WALL: Final = 1790000000.0
"""2026-09-21T14:13:20Z"""

HELD: Final = CredentialStatus(
    name="switch",
    freshness=Freshness.FRESH,
    generation=7,
    sent_at=NOW - 1,
    expires_at=NOW + 3600,
    usable_until=NOW + 3590,
    refresh_at=NOW + 2880,
    scope=None,
    phase="idle",
    next_fetch_at=NOW + 2880,
    consecutive_failures=0,
    failing_since=None,
    refused_since=None,
    is_exhausted=False,
    exhausted_until=None,
    remedy="another content of the file /secret",
    uses_previous_secret=False,
    last_error=None,
    last_success_at=NOW,
    secret_error=None,
    fetches={"ok": 7, "refused": 2},
    tokens_issued=8,
    quota=(QuotaBucket(name="per_hour", quota=10, remaining=3, resets_at=NOW + 2800),),
)
"""It has a token, and all is well."""

SHARED: Final = replace(
    HELD,
    is_found=True,
    store=SharedStoreStatus(
        store="the directory /tokens",
        error="the directory /tokens cannot be used: No space left on device",
        errors=3,
        found=2,
        ignored={"malformed": 4},
    ),
)
"""It has a token of another process, and the store has failed since."""

NEVER_HELD: Final = replace(
    HELD,
    freshness=Freshness.ABSENT,
    generation=0,
    sent_at=None,
    expires_at=None,
    usable_until=None,
    refresh_at=None,
    phase="fetching",
    next_fetch_at=None,
    last_success_at=None,
    fetches={},
    quota=(),
)
"""Its first token is being fetched."""

REFUSED: Final = replace(
    NEVER_HELD,
    phase="backing_off",
    next_fetch_at=NOW + 300,
    consecutive_failures=1,
    failing_since=NOW - 2,
    last_error="401 invalid_client: wrong secret",
)
"""Its first fetch was refused."""

READY: Final = HealthSnapshot(
    now=NOW,
    wall=WALL,
    credentials=(HELD,),
    listeners=(ListenerHealth(name="switch-api", address="127.0.0.1:8080"),),
    started_at=WALL - 10,
    draining_since=None,
)
"""All is well with everything."""
