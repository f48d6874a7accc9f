"""The policy of k8s/injector, evaluated for pods."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import kubernetes_validate
import pytest

from switch_proxy.settings import parse
from tests.docs.pages import ROOT
from tests.k8s.admission import Policy
from tests.k8s.manifests import K8S, WITH_POLICIES, build, containers_with, read

_INJECT = {"switch-proxy/inject": "true"}


@pytest.fixture(scope="module", params=WITH_POLICIES)
def kubernetes(request: pytest.FixtureRequest) -> str:
    version: str = request.param
    return version


@pytest.fixture(scope="module")
def policy(kubernetes: str) -> Policy:
    return Policy(read("injector", "policy.yaml"), kubernetes=kubernetes)


def a_pod(annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"generateName": "app-7d5b-", "labels": {"app": "app"}}
    if annotations is not None:
        metadata["annotations"] = annotations
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [{"name": "app", "image": "app:1"}], **spec},
    }


def sidecar_of(pod: dict[str, Any]) -> Any:
    return pod["spec"]["initContainers"][0]


def variables_of(pod: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in sidecar_of(pod)["env"] if "value" in each}


@pytest.mark.parametrize(
    "annotations",
    [
        pytest.param(None, id="no annotations at all"),
        pytest.param({}, id="an empty map of annotations"),
        pytest.param({"app.example/owner": "me"}, id="others"),
        pytest.param({"switch-proxy/inject": "false"}, id="refused"),
        pytest.param({"switch-proxy/inject": "True"}, id="another spelling"),
        pytest.param({"switch-proxy/inject": ""}, id="empty"),
        pytest.param({"switch-proxy/secret": "mine"}, id="an option alone"),
    ],
)
@pytest.mark.parametrize("spec", [{}, {"initContainers": [{"name": "init", "image": "app:1"}]}], ids=["plain", "init"])
def test_a_pod_that_does_not_ask_for_it_is_untouched(
    policy: Policy, annotations: dict[str, str] | None, spec: dict[str, Any]
) -> None:
    pod = a_pod(annotations, **spec)
    assert policy.admit(pod) == pod


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({}, id="neither init containers nor volumes"),
        pytest.param({"initContainers": [{"name": "init", "image": "app:1"}]}, id="init containers"),
        pytest.param({"initContainers": [], "volumes": []}, id="empty lists of both"),
        pytest.param({"volumes": [{"name": "data", "emptyDir": {}}]}, id="volumes"),
        pytest.param(
            {
                "initContainers": [
                    {"name": "a", "image": "a:1"},
                    {"name": "b", "image": "b:1", "restartPolicy": "Always"},
                ],
                "volumes": [{"name": "data", "emptyDir": {}}, {"name": "more", "emptyDir": {}}],
            },
            id="several of both",
        ),
    ],
)
def test_the_sidecar_comes_first_and_all_else_stays_as_it_was(
    policy: Policy, kubernetes: str, spec: dict[str, Any]
) -> None:
    """Other init containers may already need the API."""
    pod = a_pod(_INJECT, **spec)
    admitted = policy.admit(pod)

    kubernetes_validate.validate(admitted, kubernetes, strict=True)
    assert admitted["spec"]["initContainers"][1:] == spec.get("initContainers", [])
    assert admitted["spec"]["volumes"][:-2] == spec.get("volumes", [])
    assert admitted["spec"]["containers"] == pod["spec"]["containers"]
    assert admitted["metadata"] == pod["metadata"]


def test_a_second_admission_changes_nothing(policy: Policy) -> None:
    once = policy.admit(a_pod(_INJECT))
    assert policy.admit(once) == once


def test_a_pod_that_the_component_gave_the_sidecar_keeps_that_one(policy: Policy) -> None:
    (own,) = read("component", "pod.yaml")["spec"]["initContainers"]
    pod = a_pod(_INJECT, initContainers=[{"name": "init", "image": "app:1"}, own])
    assert policy.admit(pod) == pod


def test_it_is_the_components_sidecar_configured_by_variables(policy: Policy) -> None:
    """Probes, resources, security and the rest are the same."""
    (expected,) = read("component", "pod.yaml")["spec"]["initContainers"]
    sidecar = sidecar_of(policy.admit(a_pod(_INJECT)))
    differ = {"env", "envFrom", "volumeMounts"}
    assert {key: value for key, value in sidecar.items() if key not in differ} == {
        key: value for key, value in expected.items() if key not in differ
    }
    assert sidecar["volumeMounts"] == [mount for mount in expected["volumeMounts"] if "config" not in mount["name"]]
    assert sidecar["envFrom"] == [{"configMapRef": {"name": "switch-proxy"}}]


def test_without_options_the_image_decides_what_the_cluster_and_the_namespace_do_not(policy: Policy) -> None:
    admitted = policy.admit(a_pod(_INJECT))
    assert sidecar_of(admitted)["image"] == "switch-proxy:0.1.0"
    assert variables_of(admitted) == {
        "SWITCH_CLIENT_SECRET_FILE": "/var/run/secrets/switch/client_secret",
        "SWITCH_PROXY_ADMIN_LISTEN": "0.0.0.0:9901",
        "SWITCH_PROXY_ADMIN_ALLOW_REMOTE_CLIENTS": "true",
        "SWITCH_PROXY_TOKEN_STORE_DIRECTORY": "/var/run/switch-proxy/tokens",
    }


@pytest.mark.parametrize(
    ("annotations", "secret"), [({}, "switch-client"), ({"switch-proxy/secret": "orders-client"}, "orders-client")]
)
def test_id_and_secret_come_from_one_secret_that_the_sidecar_alone_mounts(
    policy: Policy, annotations: dict[str, str], secret: str
) -> None:
    admitted = policy.admit(a_pod({**_INJECT, **annotations}))
    (client_id,) = [each for each in sidecar_of(admitted)["env"] if each["name"] == "SWITCH_CLIENT_ID"]
    assert client_id["valueFrom"] == {"secretKeyRef": {"name": secret, "key": "client_id"}}
    assert admitted["spec"]["volumes"][0] == {"name": "switch-client-secret", "secret": {"secretName": secret}}
    assert not any("volumeMounts" in container for container in admitted["spec"]["containers"])


def test_tokens_are_kept_in_a_volume_of_the_sidecar_alone_so_that_a_restart_costs_none(policy: Policy) -> None:
    """The same volume as the component's, and a directory in it: an emptyDir may be written by all, which the store refuses."""
    admitted = policy.admit(a_pod(_INJECT))
    (volume,) = [each for each in admitted["spec"]["volumes"] if each["name"] == "switch-proxy-tokens"]
    assert volume in read("component", "pod.yaml")["spec"]["volumes"]
    (container,) = containers_with(admitted["spec"], "switch-proxy-tokens")
    assert container["name"] == "switch-proxy"
    (mount,) = [each for each in container["volumeMounts"] if each["name"] == "switch-proxy-tokens"]
    directory = variables_of(admitted)["SWITCH_PROXY_TOKEN_STORE_DIRECTORY"]
    assert str(PurePosixPath(directory).parent) == mount["mountPath"]


@pytest.mark.parametrize(
    ("annotation", "value", "variable", "expected"),
    [
        ("upstream", "https://api.example/base", "SWITCH_API_URL", "https://api.example/base"),
        ("audience", "https://api.example", "SWITCH_AUDIENCE", "https://api.example"),
        ("listen-port", "18080", "SWITCH_PROXY_LISTEN", "127.0.0.1:18080"),
    ],
)
def test_an_annotation_says_what_a_variable_of_the_namespace_would(
    policy: Policy, annotation: str, value: str, variable: str, expected: str
) -> None:
    """In a pod, `env` overrides `envFrom`."""
    annotations = {**_INJECT, f"switch-proxy/{annotation}": value}
    plain, changed = variables_of(policy.admit(a_pod(_INJECT))), variables_of(policy.admit(a_pod(annotations)))
    assert changed == {**plain, variable: expected}


def test_image_can_be_configured_by_what_an_injected_sidecar_has(policy: Policy) -> None:
    """The policy's variables, one of the namespace's ConfigMap, and the Secret's client id are enough."""
    options = {"upstream": "https://api.example/base", "audience": "https://api.example", "listen-port": "18080"}
    annotations = {**_INJECT, **{f"switch-proxy/{name}": value for name, value in options.items()}}
    environ = {
        "SWITCH_TOKEN_URL": "https://login.example/token",
        "SWITCH_CLIENT_ID": "id",
        **variables_of(policy.admit(a_pod(annotations))),
    }
    carried = (ROOT / "docker" / "config.yaml").read_bytes()
    settings = parse(carried, source="docker/config.yaml", environ=environ)
    (route,), credential = settings.routes, settings.credentials["switch"]
    assert (str(route.listen), str(route.upstream)) == ("127.0.0.1:18080", "https://api.example/base")
    assert (credential.audience, str(credential.client_secret)) == (
        "https://api.example",
        "the file /var/run/secrets/switch/client_secret",
    )
    assert str(settings.admin.listen) == "0.0.0.0:9901"
    assert settings.token_store is not None
    assert settings.token_store.is_on


def test_an_annotation_names_another_image(policy: Policy) -> None:
    pod = a_pod({**_INJECT, "switch-proxy/image": "mirror.example/switch-proxy:2"})
    assert sidecar_of(policy.admit(pod))["image"] == "mirror.example/switch-proxy:2"


def test_every_annotation_is_told_at_the_top_of_the_policy() -> None:
    text = (K8S / "injector" / "policy.yaml").read_text(encoding="utf-8")
    comment, _, rules = text.partition("apiVersion:")
    used = {word.partition("'")[0] for word in rules.split("'switch-proxy/")[1:]}
    told = {line.partition(":")[0] for line in comment.split("#   switch-proxy/")[1:]}
    assert told == used
    assert len(used) == 6


def test_built_policy_and_binding_are_what_the_api_server_takes(kubernetes: str) -> None:
    policy, binding = build(K8S / "injector")
    for document in (policy, binding):
        kubernetes_validate.validate(document, kubernetes, strict=True)
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]


def test_clusters_image_is_where_the_kustomization_says_to_replace_it() -> None:
    """A JSON patch addresses variables by their place."""
    told = (K8S / "injector" / "kustomization.yaml").read_text(encoding="utf-8")
    assert "/spec/variables/0/expression" in told
    assert read("injector", "policy.yaml")["spec"]["variables"][0]["name"] == "clusterImage"


# --- the evaluation finds mistakes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("good", "bad", "told"),
    [
        pytest.param("containerPort: 9901", "containerPort: '9901'", "containerPort", id="a value of another type"),
        pytest.param("restartPolicy: 'Always'", "restartPolcy: 'Always'", "restartPolcy", id="an unknown field"),
        pytest.param("drop: ['ALL']", "drop: [7]", "drop", id="a list of others"),
        pytest.param(
            "startupProbe: Object.spec.initContainers.startupProbe{",
            "startupProbe: Object.spec.initContainers.livenessProbe{",
            "startupProbe",
            id="the type of another place",
        ),
    ],
)
def test_an_expression_with_a_mistake_does_not_compile(kubernetes: str, good: str, bad: str, told: str) -> None:
    document = read("injector", "policy.yaml")
    (mutation,) = document["spec"]["mutations"]
    expression = mutation["jsonPatch"]["expression"]
    assert good in expression
    mutation["jsonPatch"]["expression"] = expression.replace(good, bad)
    with pytest.raises(ValueError, match=told):
        Policy(document, kubernetes=kubernetes)
