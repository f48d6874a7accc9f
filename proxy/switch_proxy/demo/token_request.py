"""The token endpoint's parsing of requests and its responses (RFC 6749 §3.2, §5.1, §5.2)."""

from __future__ import annotations

import base64
import json
from collections import Counter
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote_plus

from switch_proxy.demo.messages import ReceivedRequest, Response

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_FORM = "application/x-www-form-urlencoded"
_MAX_FORM = 64 * 2**10
"""Bytes. A token request has a few hundred, one with a signed assertion a few thousand."""


class TokenRequestRefusedError(Exception):
    """A token request is refused with an error response of RFC 6749 §5.2."""

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(error)
        self.response = error_response(status, error, description)


def unauthenticated(description: str) -> TokenRequestRefusedError:
    """Return the refusal of a client that used the Authorization field; it names the scheme (RFC 6749 §5.2)."""
    refused = TokenRequestRefusedError(401, "invalid_client", description)
    refused.response = refused.response.with_field("WWW-Authenticate", 'Basic realm="token endpoint", charset="UTF-8"')
    return refused


def read_form(request: ReceivedRequest) -> dict[str, str]:
    """Return the body's parameters. Those without a value count as not sent; one sent twice is refused (§3.2)."""
    content_types = request.values("content-type")
    media_type = content_types[0].partition(";")[0].strip().lower() if len(content_types) == 1 else ""
    if media_type != _FORM:
        raise TokenRequestRefusedError(400, "invalid_request", f"Content-Type must be {_FORM}")
    if len(request.body) > _MAX_FORM:
        raise TokenRequestRefusedError(413, "invalid_request", f"a token request has at most {_MAX_FORM} bytes")
    if any(name in ("client_id", "client_secret") for name, _ in request.parameters):
        raise TokenRequestRefusedError(400, "invalid_request", "client credentials must not be in the URL")
    try:
        pairs = parse_qsl(request.body.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError:
        raise TokenRequestRefusedError(400, "invalid_request", "the body is not a form in UTF-8") from None
    for name, count in Counter(name for name, _ in pairs).items():
        if count > 1 and name != "resource":  # only this one may be repeated (RFC 8707 §2)
            raise TokenRequestRefusedError(400, "invalid_request", f"Parameter sent more than once: {name}")
    return {name: value for name, value in pairs if value}


def required(form: Mapping[str, str], name: str) -> str:
    """Return a parameter's value. Raises TokenRequestRefusedError if it was not sent."""
    if name not in form:
        raise TokenRequestRefusedError(400, "invalid_request", f"Missing required parameter: {name}")
    return form[name]


def read_basic_credentials(lines: Sequence[str]) -> tuple[str, str]:
    """Return id and secret of a Basic line; both are form-encoded before they are joined (RFC 6749 §2.3.1)."""
    scheme, _, encoded = lines[0].partition(" ")
    if len(lines) != 1 or scheme.lower() != "basic":
        raise unauthenticated("the Authorization field must be one line of the Basic scheme")
    try:
        client_id, colon, secret = base64.b64decode(encoded.strip(), validate=True).decode("utf-8").partition(":")
    except ValueError:
        raise unauthenticated("the Basic credentials are not base64 of UTF-8") from None
    if not colon:
        raise unauthenticated("the Basic credentials have no colon")
    return unquote_plus(client_id), unquote_plus(secret)


def refusal(status: int) -> Response:
    """Return the error response for the status of a fault."""
    if status < HTTPStatus.BAD_REQUEST:
        return replace(json_response(status, {}), body=b"")
    names = {
        400: ("invalid_request", "The request is malformed"),
        401: ("access_denied", "Unauthorized"),
        403: ("access_denied", "Forbidden"),
        429: ("too_many_requests", "Global limit has been reached"),
        503: ("temporarily_unavailable", "The authorization server is overloaded or under maintenance"),
    }
    return error_response(status, *names.get(status, ("server_error", "The authorization server failed")))


def error_response(status: int, error: str, description: str) -> Response:
    """Return an error response (RFC 6749 §5.2)."""
    return json_response(status, {"error": error, "error_description": description})


def json_response(status: int, content: Mapping[str, object]) -> Response:
    """Return a response that no cache may keep (RFC 6749 §5.1)."""
    fields = (
        ("Content-Type", "application/json; charset=utf-8"),
        ("Cache-Control", "no-store"),
        ("Pragma", "no-cache"),
    )
    return Response(status=status, fields=fields, body=json.dumps(content).encode())
