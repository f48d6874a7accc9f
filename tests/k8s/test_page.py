"""docs/kubernetes.md: its instructions work, and it is complete."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import yaml

from switch_proxy.settings import parse
from tests.docs.pages import ROOT, blocks, commands
from tests.k8s.manifests import EXAMPLES, K8S, build, pod_of, read

if TYPE_CHECKING:
    from pathlib import Path

_PAGE: Final = ROOT / "docs" / "kubernetes.md"
_TEXT: Final = _PAGE.read_text(encoding="utf-8")

_APP: Final = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec: {containers: [{name: app, image: "app:1"}]}
"""


def test_the_two_files_that_it_tells_to_write_give_an_app_its_sidecar(tmp_path: Path) -> None:
    config, kustomization = blocks(_PAGE, "yaml")
    user, component = tmp_path / "user", tmp_path / "PATH/TO/switch-proxy/k8s/component"
    component.mkdir(parents=True)
    user.mkdir()
    for path in (K8S / "component").iterdir():
        (component / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    (user / "app.yaml").write_text(_APP)
    (user / "config.yaml").write_text(config)
    (user / "kustomization.yaml").write_text(kustomization.replace("PATH/TO", "../PATH/TO"))

    built = {document["kind"]: document for document in build(user)}

    pod = pod_of(built["Deployment"])
    (sidecar,) = pod["initContainers"]
    assert sidecar["image"].startswith("YOUR-REGISTRY/switch-proxy:")
    (volume,) = [each for each in pod["volumes"] if each["name"] == "switch-proxy-config"]
    assert volume["configMap"]["name"] == built["ConfigMap"]["metadata"]["name"]
    settings = parse(built["ConfigMap"]["data"]["config.yaml"].encode(), source="config.yaml", environ={})
    (mount,) = [each for each in sidecar["volumeMounts"] if each["name"] == "switch-client-secret"]
    assert str(settings.credentials["switch"].client_secret) == f"the file {mount['mountPath']}/client_secret"
    (mount,) = [each for each in sidecar["volumeMounts"] if each["name"] == "switch-proxy-tokens"]
    assert settings.token_store is not None
    assert settings.token_store.directory == f"{mount['mountPath']}/tokens"
    assert f"`http://{settings.routes[0].listen}`" in _TEXT


def test_secrets_that_it_tells_to_make_are_those_that_the_manifests_name() -> None:
    made = [command for command in commands(_PAGE) if "create secret" in command]
    assert len(made) == 3
    for command in made:
        assert "secret generic switch-client " in command
        assert "--from-file=client_secret=" in command
    assert any("--from-literal=client_id=" in command for command in made)
    (secret,) = [each["secret"] for each in read("component", "pod.yaml")["spec"]["volumes"] if "secret" in each]
    assert secret == {"secretName": "switch-client"}


def test_every_annotation_of_the_injector_is_told() -> None:
    policy = (K8S / "injector" / "policy.yaml").read_text(encoding="utf-8")
    used = set(re.findall(r"'(switch-proxy/[a-z-]+)'", policy))
    assert set(re.findall(r"^\| `(switch-proxy/[a-z-]+)` \|", _TEXT, flags=re.MULTILINE)) == used


def test_every_example_is_told() -> None:
    told = re.findall(r"^\| \[([a-z-]+)\]\(\.\./k8s/examples/\1/", _TEXT, flags=re.MULTILINE)
    assert sorted(told) == [example.name for example in EXAMPLES]


def test_every_variable_that_the_injector_sets_is_one_of_the_image() -> None:
    known = set(re.findall(r"\$\{(\w+)", (ROOT / "docker" / "config.yaml").read_text(encoding="utf-8")))
    policy = (K8S / "injector" / "policy.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"name: '(SWITCH_\w+)'", policy)) <= known
    assert yaml.safe_load(policy)["kind"] == "MutatingAdmissionPolicy"
