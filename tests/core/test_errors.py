"""The texts of errors, and their attributes."""

from __future__ import annotations

from switch_proxy.core.errors import TlsFilesError, TokenUnavailableError, UpstreamConnectError
from switch_proxy.core.http.problems import Problem


def test_bad_tls_files_are_named_with_their_owner() -> None:
    error = TlsFilesError(key="ca_file", owner="route 'api'", source="the file /tls/ca.pem", problem="does not exist")
    assert str(error) == "tls.ca_file of route 'api' cannot be used: the file /tls/ca.pem does not exist"


def test_a_missing_token_names_its_credential_and_says_when_to_come_back() -> None:
    error = TokenUnavailableError(credential="switch", reason="the last fetch failed", retry_after=3.5)
    assert str(error) == "credential 'switch': the last fetch failed"
    assert (error.credential, error.reason, error.retry_after) == ("switch", "the last fetch failed", 3.5)


def test_a_failed_connection_has_what_the_client_is_told_apart_from_the_details() -> None:
    error = UpstreamConnectError(Problem.UPSTREAM_UNREACHABLE, "connection refused")
    assert (error.problem, error.detail, str(error)) == (
        Problem.UPSTREAM_UNREACHABLE,
        "connection refused",
        "connection refused",
    )
