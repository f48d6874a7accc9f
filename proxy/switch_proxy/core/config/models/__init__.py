"""
What can be configured: one model per section, its defaults with the reasons, and the rules between values.

Knows nothing of files, YAML and the environment (proxy/switch_proxy/settings.py does). Each key is described here, once:
core/config/validation.py reads by it, config.schema.json is made from it, docs/configuration.md is held to it. Models are
plain frozen dataclasses: docs/decisions/0003-configuration-without-pydantic.md says why.
"""

from switch_proxy.core.addresses import Address, Origin
from switch_proxy.core.authentication.client_assertion import AssertionSource
from switch_proxy.core.authentication.client_secret import SecretSource
from switch_proxy.core.authentication.private_key_jwt import PrivateKeySettings
from switch_proxy.core.config.models.admin import ADMIN_LISTENER, AdminSettings
from switch_proxy.core.config.models.allow import AllowSettings
from switch_proxy.core.config.models.credential import CredentialSettings
from switch_proxy.core.config.models.fields import RequestHeaderSettings, ResponseHeaderSettings
from switch_proxy.core.config.models.limits import LimitSettings, ListenerLimitSettings
from switch_proxy.core.config.models.listener import ListenerSettings
from switch_proxy.core.config.models.log import LogSettings
from switch_proxy.core.config.models.match import MatchSettings
from switch_proxy.core.config.models.pool import PoolSettings
from switch_proxy.core.config.models.rate_limit import RateLimitSettings
from switch_proxy.core.config.models.route import RouteSettings
from switch_proxy.core.config.models.settings import Settings
from switch_proxy.core.config.models.shutdown import ShutdownSettings
from switch_proxy.core.config.models.timeouts import ListenerTimeoutSettings, TimeoutSettings
from switch_proxy.core.config.models.tls import TlsSettings
from switch_proxy.core.config.models.token_store import RedisSettings, StoreSecretSource, TokenStoreSettings
from switch_proxy.core.path_prefix import PathPrefix

__all__ = [
    "ADMIN_LISTENER",
    "Address",
    "AdminSettings",
    "AllowSettings",
    "AssertionSource",
    "CredentialSettings",
    "LimitSettings",
    "ListenerLimitSettings",
    "ListenerSettings",
    "ListenerTimeoutSettings",
    "LogSettings",
    "MatchSettings",
    "Origin",
    "PathPrefix",
    "PoolSettings",
    "PrivateKeySettings",
    "RateLimitSettings",
    "RedisSettings",
    "RequestHeaderSettings",
    "ResponseHeaderSettings",
    "RouteSettings",
    "SecretSource",
    "Settings",
    "ShutdownSettings",
    "StoreSecretSource",
    "TimeoutSettings",
    "TlsSettings",
    "TokenStoreSettings",
]
