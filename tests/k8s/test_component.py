"""k8s/component adds the sidecar to every kind of workload with one line of a kustomization."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
import yaml

from tests.k8s.manifests import K8S, SUPPORTED, build, containers_with, pod_of, read

if TYPE_CHECKING:
    from pathlib import Path

_POD: dict[str, Any] = {
    "containers": [{"name": "app", "image": "app:1"}],
    "initContainers": [{"name": "init", "image": "app:1"}],
    "volumes": [{"name": "data", "emptyDir": {}}],
}
_LABELLED = {"selector": {"matchLabels": {"app": "app"}}}
_TEMPLATE = {"metadata": {"labels": {"app": "app"}}, "spec": _POD}
_JOB = {"template": {"spec": {**_POD, "restartPolicy": "Never"}}}

_WORKLOADS = {
    "Pod": ("v1", _POD),
    "Deployment": ("apps/v1", {**_LABELLED, "template": _TEMPLATE}),
    "StatefulSet": ("apps/v1", {**_LABELLED, "serviceName": "app", "template": _TEMPLATE}),
    "DaemonSet": ("apps/v1", {**_LABELLED, "template": _TEMPLATE}),
    "ReplicaSet": ("apps/v1", {**_LABELLED, "template": _TEMPLATE}),
    "Job": ("batch/v1", _JOB),
    "CronJob": ("batch/v1", {"schedule": "15 2 * * *", "jobTemplate": {"spec": _JOB}}),
}


def a_workload(kind: str, name: str = "app", **metadata: Any) -> dict[str, Any]:
    version, spec = _WORKLOADS[kind]
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, **metadata}, "spec": spec}


def write(folder: Path, *documents: dict[str, Any], **kustomization: Any) -> Path:
    """Write a user's kustomization beside a copy of the component, because kustomize accepts no absolute path."""
    component = folder / "component"
    component.mkdir()
    for path in (K8S / "component").iterdir():
        (component / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    user = folder / "user"
    user.mkdir()
    (user / "app.yaml").write_text(yaml.safe_dump_all(documents))
    (user / "config.yaml").write_text("the configuration")
    (user / "kustomization.yaml").write_text(
        yaml.safe_dump({"resources": ["app.yaml"], "components": ["../component"], **kustomization})
    )
    return user


@pytest.fixture(scope="module")
def added() -> Any:
    """The parts that the component adds to a pod."""
    return read("component", "pod.yaml")["spec"]


@pytest.mark.parametrize("kind", _WORKLOADS)
def test_a_workload_gets_the_sidecar_first_and_keeps_its_own(kind: str, tmp_path: Path, added: Any) -> None:
    """The other init containers may already need the API."""
    (workload,) = build(write(tmp_path, a_workload(kind)))
    pod = pod_of(workload)
    assert pod["initContainers"] == [*added["initContainers"], *_POD["initContainers"]]
    assert pod["containers"] == _POD["containers"]
    assert sorted(volume["name"] for volume in pod["volumes"]) == [
        "data",
        "switch-client-secret",
        "switch-proxy-config",
        "switch-proxy-tokens",
    ]
    assert [container["name"] for container in containers_with(pod, "switch-proxy-tokens")] == ["switch-proxy"]
    for version in SUPPORTED:
        kubernetes_validate.validate(workload, version, strict=True)


@pytest.mark.parametrize("kind", _WORKLOADS)
def test_a_workload_that_refuses_it_is_left_alone(kind: str, tmp_path: Path) -> None:
    workload = a_workload(kind, annotations={"switch-proxy/inject": "false"})
    assert build(write(tmp_path, workload)) == [workload]


def test_what_makes_no_pods_is_left_alone(tmp_path: Path) -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "app"}, "spec": {"ports": [{"port": 80}]}}
    assert build(write(tmp_path, service)) == [service]


def test_a_changed_configuration_makes_new_pods(tmp_path: Path) -> None:
    """Kustomize names a generated ConfigMap by its content."""
    generator = [{"name": "switch-proxy", "files": ["config.yaml"]}]
    user = write(tmp_path, a_workload("Deployment"), configMapGenerator=generator, namePrefix="orders-")
    config, deployment = sorted(build(user), key=lambda document: str(document["kind"]))
    (volume,) = [each for each in pod_of(deployment)["volumes"] if each["name"] == "switch-proxy-config"]
    assert volume["configMap"]["name"] == config["metadata"]["name"]
    assert config["metadata"]["name"].startswith("orders-switch-proxy-")


def test_image_is_set_as_that_of_any_container(tmp_path: Path) -> None:
    user = write(
        tmp_path,
        a_workload("Deployment"),
        images=[{"name": "switch-proxy", "newName": "registry.example/switch-proxy", "newTag": "2.0"}],
    )
    (deployment,) = build(user)
    assert pod_of(deployment)["initContainers"][0]["image"] == "registry.example/switch-proxy:2.0"


@pytest.mark.parametrize("name", ["workload", "cronjob"])
def test_every_kind_gets_the_same(name: str, added: Any) -> None:
    """The patches differ in indentation; YAML cannot share the rest."""
    patch = read("component", f"{name}.yaml")
    assert pod_of({**patch, "kind": "CronJob" if name == "cronjob" else "Deployment"}) == added
