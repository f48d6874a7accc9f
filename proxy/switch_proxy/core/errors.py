"""
The exceptions of this package: one small tree, named by whose fault the error is.

    SwitchProxyError
    ├── ConfigurationError        the operator's: the configuration cannot be used (exit code 2)
    ├── InvalidValueError         the operator's: one configured value; becomes a problem of a ConfigurationError
    ├── ListenError               the operator's: an address cannot be bound (exit code 1)
    ├── TlsFilesError             the operator's: a certificate, key or authority's file cannot be used
    │   └── TlsFilesHangError                    it has not been read in time, and may be yet
    ├── SecretUnavailableError    the operator's: a secret's file or variable is missing, empty or unreadable
    ├── TokenFetchError           the authorization server's or the network's; one failed fetch
    │   ├── TokenEndpointUnavailableError   network, 5xx: tried again soon
    │   ├── TokenQuotaExhaustedError        429: tried again once the quota has been reset
    │   ├── TokenRequestRefusedError        400, 401, 403: tried again slowly
    │   └── TokenResponseInvalidError       a response that cannot be used: tried again soon, or slowly if it may have cost a token
    ├── TokenStoreError           the store's of shared tokens: tokens are fetched without it
    ├── TokenUnavailableError     no usable token for a request in time (the caller gets 503)
    ├── UpstreamConnectError      the upstream's or the network's: no connection could be opened
    └── MessageError              an HTTP message that breaks the rules
        ├── RequestError          the client's: refused with `status`, the connection closed
        └── ResponseError         the upstream's: the client gets 502, the connection is not reused

No text of an error contains a secret, a token or the body of a token response.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from switch_proxy.core.http.problems import Problem
    from switch_proxy.core.quota import QuotaBucket
    from switch_proxy.core.schema.problem import Problem as ConfigurationProblem


class SwitchProxyError(Exception):
    """The root of the tree."""


class ConfigurationError(SwitchProxyError):
    """The configuration cannot be used; `problems` lists every mistake, each a line of the error's text."""

    def __init__(self, problems: tuple[ConfigurationProblem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class InvalidValueError(SwitchProxyError, ValueError):
    """
    One configured value cannot be used.

    `predicate` goes on after the value or a name for it: "is not a duration; write …". The value itself is not part of it;
    `is_safe_to_echo` says that it is of a kind that cannot be a secret.
    """

    def __init__(self, predicate: str, *, is_safe_to_echo: bool = False) -> None:
        super().__init__(f"the value {predicate}")
        self.predicate = predicate
        self.is_safe_to_echo = is_safe_to_echo


class ListenError(SwitchProxyError):
    """An address cannot be bound."""


class TlsFilesError(SwitchProxyError):
    """The file of one key of a `tls` section cannot be used; `problem` is a predicate: "does not exist"."""

    def __init__(self, *, key: str, owner: str, source: str, problem: str) -> None:
        super().__init__(f"tls.{key} of {owner} cannot be used: {source} {problem}")


class TlsFilesHangError(TlsFilesError):
    """The file is on a volume that does not respond, or is slow: it may be read later."""


class SecretUnavailableError(SwitchProxyError):
    """
    A secret cannot be read from its configured source.

    The text names the source (file or variable) and what is wrong with it, never the value.
    """

    outcome: ClassVar[str] = "no_secret"


class TokenFetchError(SwitchProxyError):
    """
    One fetch of an access token failed.

    `outcome` is the kind of failure in one word, for metrics; `reason` is a sentence that a person can act on; `retry_after`
    is what the server asked for, in seconds, or None; `quota` is what the response stated of the ration of tokens.
    """

    outcome: ClassVar[str] = "unexpected"

    def __init__(self, reason: str, *, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after
        self.quota: tuple[QuotaBucket, ...] = ()


class TokenEndpointUnavailableError(TokenFetchError):
    """
    The token endpoint cannot be reached, or responds with 5xx: transient.

    `is_rate_limited` says that something on the way to it asks for fewer requests (429): the issuer's metadata, or an egress
    proxy. That is no quota of tokens, but another request is as much in vain.
    """

    outcome = "unavailable"

    def __init__(self, reason: str, *, retry_after: float | None = None, is_rate_limited: bool = False) -> None:
        super().__init__(reason, retry_after=retry_after)
        self.is_rate_limited = is_rate_limited


class TokenQuotaExhaustedError(TokenFetchError):
    """
    The authorization server grants this client no more tokens for now (429).

    `exhausted_until` is when the bucket that is used up resets, on the clock of its `quota`; None if the server does not say.
    """

    outcome = "exhausted"

    def __init__(self, reason: str, *, retry_after: float | None = None, exhausted_until: float | None = None) -> None:
        super().__init__(reason, retry_after=retry_after)
        self.exhausted_until = exhausted_until


class TokenRequestRefusedError(TokenFetchError):
    """
    The authorization server refuses the request (400, 401, 403): another request does not help.

    `is_about_client` says that the client's authentication failed (RFC 6749 §5.2: 401, `invalid_client`).
    """

    outcome = "refused"

    def __init__(self, reason: str, *, retry_after: float | None = None, is_about_client: bool = False) -> None:
        super().__init__(reason, retry_after=retry_after)
        self.is_about_client = is_about_client


class TokenResponseInvalidError(TokenFetchError):
    """
    The token endpoint's response has no usable access token.

    `may_have_cost_token` says that the server has probably issued one: it responded with 2xx, and what came is no page.
    """

    outcome = "invalid"

    def __init__(self, reason: str, *, retry_after: float | None = None, may_have_cost_token: bool = False) -> None:
        super().__init__(reason, retry_after=retry_after)
        self.may_have_cost_token = may_have_cost_token


class TokenStoreError(SwitchProxyError):
    """The store of shared tokens cannot be used; the text names it and says why."""


class TokenUnavailableError(SwitchProxyError):
    """
    There was no usable access token for a request within the time it may wait.

    `credential` is the credential's configured name, `reason` says why, `retry_after` when to retry, in seconds.
    """

    def __init__(self, *, credential: str, reason: str, retry_after: float) -> None:
        super().__init__(f"credential {credential!r}: {reason}")
        self.credential = credential
        self.reason = reason
        self.retry_after = retry_after


class UpstreamConnectError(SwitchProxyError):
    """No connection to the upstream could be opened; the client gets `problem`, with `detail`."""

    def __init__(self, problem: Problem, detail: str) -> None:
        super().__init__(detail)
        self.problem = problem
        self.detail = detail


class MessageError(SwitchProxyError):
    """An HTTP message that breaks RFC 9110 or 9112, or a limit of ours."""


class RequestError(MessageError):
    """A client's request is refused with `status`; its connection is closed, because its framing is in doubt."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class ResponseError(MessageError):
    """An upstream's response cannot be trusted; the connection it came on is not used again."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail
