"""docs/authorization-servers.md: its configurations are valid, and its pod is consistent."""

from __future__ import annotations

from typing import Any, Final

import pytest
import yaml

from switch_proxy.core.authentication.registry import METHODS
from switch_proxy.settings import parse
from tests.docs.pages import ROOT, blocks

_PAGE: Final = ROOT / "docs" / "authorization-servers.md"
_BLOCKS: Final = tuple(blocks(_PAGE, "yaml"))
_ROUTE: Final = """
routes: [{name: switch-api, listen: "127.0.0.1:8080", upstream: "https://api.switchmarket.se", credential: switch}]
"""


@pytest.mark.parametrize("text", [text for text in _BLOCKS if text.startswith("credentials:")])
def test_examples_are_configurations(text: str) -> None:
    assert set(parse((text + _ROUTE).encode(), source="page", environ={}).credentials) == {"switch"}


def test_every_method_is_told_of() -> None:
    text = _PAGE.read_text(encoding="utf-8")
    for method in METHODS:
        assert f"`{method}`" in text


def test_token_is_mounted_where_it_is_read_and_into_the_sidecar_alone() -> None:
    """The pod of the page: no secret in it, and the token out of the app's reach."""
    (pods,) = [text for text in _BLOCKS if text.startswith("apiVersion:")]
    account, configuration, pod = (_object(document) for document in yaml.safe_load_all(pods))
    settings = parse(configuration["data"]["config.yaml"].encode(), source="page", environ={})
    credential = settings.credentials["switch"]
    (sidecar,), (app,) = pod["spec"]["initContainers"], pod["spec"]["containers"]
    (volume,) = [volume for volume in pod["spec"]["volumes"] if "projected" in volume]
    (mount,) = [mount for mount in sidecar["volumeMounts"] if mount["name"] == volume["name"]]
    (source,) = volume["projected"]["sources"]
    token = source["serviceAccountToken"]
    assert credential.client_assertion is not None
    assert credential.client_assertion.file == f"{mount['mountPath']}/{token['path']}"
    assert token["audience"] == credential.issuer
    assert "volumeMounts" not in app
    assert pod["spec"]["serviceAccountName"] == account["metadata"]["name"]
    assert not [volume for volume in pod["spec"]["volumes"] if "secret" in volume]


def _object(document: object) -> dict[str, Any]:
    assert isinstance(document, dict)
    return document
