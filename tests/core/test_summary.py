"""Settings told to a person."""

from __future__ import annotations

from typing import Any

from hypothesis import given

from proxy.core.summary import find_idle_credentials, summarize
from proxy.core.validation import read_settings
from tests.core.configurations import configurations


def _data() -> dict[str, Any]:
    return {
        "credentials": {
            "switch": {
                "token_url": "https://login.example.com/oauth/token?tenant=hidden",
                "client_id": "the-client",
                "client_secret": {"file": "/secret"},
                "audience": "https://api.example.com",
                "extra_params": {"organization": "hidden"},
                "timeout": "2s",
            },
            "spare": {
                "token_url": "http://localhost:1/t",
                "client_id": "x",
                "client_secret": {"env": "SPARE"},
                "scope": "a b",
            },
        },
        "routes": [
            {
                "name": "api",
                "listen": "127.0.0.1:8080",
                "upstream": "https://api.example.com/v1",
                "credential": "switch",
            },
            {
                "name": "other",
                "listen": "0.0.0.0:8081",
                "allow_remote_clients": True,
                "upstream": "http://127.0.0.1:2",
                "credential": "switch",
                "via": "off",
                "tls": {"ca_file": "/ca.pem"},
                "timeouts": {"connect": "250ms"},
                "limits": {"head": 16384},
            },
        ],
        "shutdown": {"drain_delay": 3},
    }


def test_summary_tells_what_goes_where_and_what_is_not_at_its_default() -> None:
    assert (
        "\n".join(summarize(read_settings(_data(), {})))
        == """\
route api
  listens on        127.0.0.1:8080, this pod alone
  forwards to       https://api.example.com/v1
  with tokens of    credential switch

route other
  listens on        0.0.0.0:8081, reachable from outside the pod
  forwards to       http://127.0.0.1:2 (in plaintext)
  with tokens of    credential switch
  not by default    allow_remote_clients: true (default false)
                    via: off (default switch-proxy)
                    tls.ca_file: /ca.pem
                    timeouts.connect: 250ms (default 5s)
                    limits.head: 16384 (default 65536)

credential switch
  token endpoint    https://login.example.com/oauth/token
  client id         the-client
  client secret     from the file /secret
  audience          https://api.example.com
  not by default    extra_params: organization
                    timeout: 2s (default 10s)

credential spare
  token endpoint    http://localhost:1/t (in plaintext)
  client id         x
  client secret     from the environment variable SPARE
  scope             a b

the proxy itself
  admin             127.0.0.1:9901, this pod alone: /livez, /readyz, /metrics
  log               from level info, as json; a line for each request
  shutdown          3s of drain delay, then up to 25s for requests in flight"""
    )


def test_summary_tells_when_admin_is_off() -> None:
    data = {**_data(), "admin": {"listen": "off"}, "log": {"access": "off"}}
    told = list(summarize(read_settings(data, {})))
    assert "  admin             off" in told
    assert "  log               from level info, as json; a line for no request" in told


def test_credential_that_no_route_uses_is_found() -> None:
    """Its tokens would be fetched, and paid for, in vain."""
    assert find_idle_credentials(read_settings(_data(), {})) == ["spare"]


@given(configurations())
def test_any_settings_can_be_told_in_lines(data: dict[str, Any]) -> None:
    for line in summarize(read_settings(data, {})):
        assert line.isprintable()
