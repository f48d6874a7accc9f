"""Every example of k8s/ builds, is valid for the API server, and runs the proxy as it should."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import kubernetes_validate
import pytest
import yaml

from switch_proxy import __version__
from switch_proxy.settings import parse
from tests.docs.pages import ROOT
from tests.k8s.manifests import EXAMPLES, K8S, SUPPORTED, build, containers_with, pod_of, read

if TYPE_CHECKING:
    from switch_proxy.core.config.models import Settings

_ADD_ONS: Final = {"external-secrets.io/v1", "secrets-store.csi.x-k8s.io/v1"}
"""Kinds of operators, for which no version of Kubernetes has a schema."""

examples = pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)


class Proxy(NamedTuple):
    """A proxy of an example: its container, the pod that it is in, its configuration."""

    container: Any
    pod: Any
    config: str

    @property
    def settings(self) -> Settings:
        """Return the configuration as the proxy reads it."""
        return parse(self.config.encode(), source="config.yaml", environ={})


def proxies(example: Path) -> list[Proxy]:
    """Return the proxies of a built example."""
    documents = build(example)
    configs = {
        each["metadata"]["name"]: each["data"]["config.yaml"] for each in documents if each["kind"] == "ConfigMap"
    }
    found = []
    for pod in filter(None, map(pod_of, documents)):
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            if container["name"] == "switch-proxy":
                (volume,) = [each for each in pod["volumes"] if each["name"] == "switch-proxy-config"]
                found.append(Proxy(container, pod, configs[volume["configMap"]["name"]]))
    assert found
    return found


def mounted(container: Any, path: str) -> str | None:
    """Return the volume that a path of a container is in."""
    for mount in container.get("volumeMounts", []):
        if PurePosixPath(path).is_relative_to(mount["mountPath"]):
            assert "subPath" not in mount, "Kubernetes brings nothing new into a volume that is mounted so"
            name: str = mount["name"]
            return name
    return None


def labels_of(document: dict[str, Any]) -> Any:
    """Return the labels of the pods of a document."""
    spec = document["spec"]["jobTemplate"]["spec"] if document["kind"] == "CronJob" else document["spec"]
    return document["metadata"]["labels"] if document["kind"] == "Pod" else spec["template"]["metadata"]["labels"]


@examples
def test_it_is_what_the_api_server_takes(example: Path) -> None:
    for document in build(example):
        if document["apiVersion"] not in _ADD_ONS:
            for version in SUPPORTED:
                kubernetes_validate.validate(document, version, strict=True)


def test_a_mistake_in_a_manifest_would_be_noticed() -> None:
    (_, pod) = build(K8S / "examples" / "pod")
    pod["spec"]["initContainers"][0]["restartPolcy"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError, match="restartPolcy"):
        kubernetes_validate.validate(pod, SUPPORTED[-1], strict=True)


@examples
def test_configuration_can_be_used_and_is_where_the_proxy_looks(example: Path) -> None:
    for proxy in proxies(example):
        (variable,) = proxy.container["env"]
        assert variable["name"] == "SWITCH_PROXY_CONFIG"
        assert mounted(proxy.container, variable["value"]) == "switch-proxy-config"
        assert PurePosixPath(variable["value"]).name == "config.yaml"
        assert proxy.settings.routes


@examples
def test_secrets_are_mounted_where_they_are_read_and_into_the_proxy_alone(example: Path) -> None:
    for proxy in proxies(example):
        paths = [
            each["client_secret"]["file"] if "client_secret" in each else each["client_assertion"]["file"]
            for each in yaml.safe_load(proxy.config)["credentials"].values()
        ]
        store = proxy.settings.token_store
        if store is not None and store.redis is not None:
            assert store.redis.password is not None
            paths += [store.redis.password.file, store.redis.tls.ca_file]
        for path in paths:
            volume = mounted(proxy.container, path)
            assert volume is not None
            assert containers_with(proxy.pod, volume) == [proxy.container]


@examples
def test_a_container_that_restarts_costs_no_token(example: Path) -> None:
    """An emptyDir lives as long as its pod, but all may write to it: the store refuses it, and makes a directory in it."""
    for proxy in proxies(example):
        store = proxy.settings.token_store
        if example.name == "workload-identity":
            assert store is None, "it has no secret to encrypt with"
            continue
        assert store is not None
        assert store.is_on
        if store.directory is None:
            continue
        (mount,) = [each for each in proxy.container["volumeMounts"] if each["name"] == "switch-proxy-tokens"]
        assert str(PurePosixPath(store.directory).parent) == mount["mountPath"]
        assert not mount.get("readOnly", False)
        (volume,) = [each for each in proxy.pod["volumes"] if each["name"] == mount["name"]]
        assert volume["emptyDir"] == {"medium": "Memory", "sizeLimit": "1Mi"}
        assert containers_with(proxy.pod, mount["name"]) == [proxy.container]


@examples
def test_probes_ask_the_admin_listener(example: Path) -> None:
    for proxy in proxies(example):
        ports = {port["name"]: port["containerPort"] for port in proxy.container["ports"]}
        admin = proxy.settings.admin
        assert admin.listen is not None
        assert (admin.listen.port, admin.listen.is_loopback) == (ports["proxy-admin"], False)
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            path = "/readyz" if probe == "readinessProbe" else "/livez"
            assert proxy.container[probe]["httpGet"] == {"path": path, "port": "proxy-admin"}


@examples
def test_proxy_meets_the_restricted_pod_security_standard(example: Path) -> None:
    for proxy in proxies(example):
        context = proxy.container["securityContext"]
        assert f"\nUSER {context['runAsUser']}:{context['runAsGroup']}\n" in (ROOT / "Dockerfile").read_text()
        assert context["runAsNonRoot"]
        assert not context["allowPrivilegeEscalation"]
        assert context["readOnlyRootFilesystem"]
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"} & set(proxy.pod)


@examples
def test_memory_is_limited_and_cpu_is_not(example: Path) -> None:
    for proxy in proxies(example):
        assert set(proxy.container["resources"]["requests"]) == {"cpu", "memory"}
        assert set(proxy.container["resources"]["limits"]) == {"memory"}


@examples
def test_proxy_has_the_time_to_finish(example: Path) -> None:
    """The default of a pod is 30 seconds."""
    for proxy in proxies(example):
        shutdown = proxy.settings.shutdown
        given = proxy.pod.get("terminationGracePeriodSeconds", 30)
        assert shutdown.drain_delay + shutdown.grace_period < given


@examples
def test_only_the_pod_itself_reaches_a_sidecar_and_the_app_is_told_where(example: Path) -> None:
    for proxy in proxies(example):
        if proxy.container in proxy.pod["containers"]:
            continue
        assert proxy.container["restartPolicy"] == "Always"
        (app,) = proxy.pod["containers"]
        routes = [route.listen for route in proxy.settings.routes]
        assert all(listen is not None and listen.is_loopback for listen in routes)
        assert [variable["value"] for variable in app["env"]] == [f"http://{listen}" for listen in routes]


@examples
def test_image_is_that_of_this_version(example: Path) -> None:
    for proxy in proxies(example):
        assert proxy.container["image"] == f"YOUR-REGISTRY/switch-proxy:{__version__}"


def test_injector_and_component_are_of_this_version() -> None:
    assert read("injector", "policy.yaml")["spec"]["variables"][0]["expression"] == f"'switch-proxy:{__version__}'"
    (sidecar,) = read("component", "pod.yaml")["spec"]["initContainers"]
    assert sidecar["image"] == f"switch-proxy:{__version__}"


@pytest.mark.parametrize("name", ["external-secret", "csi-secret"])
def test_add_on_gives_the_file_that_is_read(name: str) -> None:
    """The names are those of the Secret in docs/kubernetes.md, so that one can replace the other."""
    documents = {document["kind"]: document for document in build(K8S / "examples" / name)}
    if name == "external-secret":
        spec = documents["ExternalSecret"]["spec"]
        assert spec["target"]["name"] == "switch-client"
        assert [each["secretKey"] for each in spec["data"]] == ["client_secret"]
    else:
        given = documents["SecretProviderClass"]
        (volume,) = [each for each in pod_of(documents["Deployment"])["volumes"] if "csi" in each]
        assert volume["csi"]["volumeAttributes"] == {"secretProviderClass": given["metadata"]["name"]}
        assert [each["objectName"] for each in yaml.safe_load(given["spec"]["parameters"]["objects"])] == [
            "client_secret"
        ]


def test_workload_identity_has_no_secret_anywhere() -> None:
    (proxy,) = proxies(K8S / "examples" / "workload-identity")
    assert not any("secret" in volume for volume in proxy.pod["volumes"])
    (volume,) = [each for each in proxy.pod["volumes"] if "projected" in each]
    (source,) = volume["projected"]["sources"]
    credential = yaml.safe_load(proxy.config)["credentials"]["switch"]
    assert credential["client_assertion"]["file"].endswith(f"/{source['serviceAccountToken']['path']}")


def test_pods_and_jobs_of_a_fleet_share_their_tokens() -> None:
    """The same identity and the same place, and secrets of one name."""
    fleet, jobs, gateway = (proxies(K8S / "examples" / name)[0] for name in ("fleet", "cronjob-fleet", "gateway"))
    assert fleet.config == jobs.config
    assert fleet.settings.credentials == gateway.settings.credentials
    assert fleet.settings.token_store == gateway.settings.token_store
    for proxy in (fleet, jobs, gateway):
        assert {"name": "token-store-secret", "secret": {"secretName": "token-store"}} in proxy.pod["volumes"]
    told = (K8S / "examples" / "fleet" / "kustomization.yaml").read_text(encoding="utf-8")
    store = fleet.settings.token_store
    assert store is not None
    assert store.redis is not None
    assert store.redis.password is not None
    for path in (store.redis.password.file, store.redis.tls.ca_file):
        assert path is not None
        assert f"--from-file={PurePosixPath(path).name}=FILE" in told


def test_jobs_of_a_fleet_run_every_15_minutes() -> None:
    (cronjob,) = [each for each in build(K8S / "examples" / "cronjob-fleet") if each["kind"] == "CronJob"]
    assert cronjob["spec"]["schedule"] == "*/15 * * * *"


class TestGateway:
    """The only example in which the proxy is not a sidecar."""

    @pytest.fixture
    def built(self) -> dict[str, Any]:
        documents = build(K8S / "examples" / "gateway")
        return {f"{document['kind']}/{document['metadata']['name']}": document for document in documents}

    def test_service_scaling_and_budget_are_of_the_deployment(self, built: dict[str, Any]) -> None:
        deployment = built["Deployment/switch-gateway"]
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert deployment["spec"]["selector"]["matchLabels"] == labels
        assert built["Service/switch-gateway"]["spec"]["selector"] == labels
        assert built["PodDisruptionBudget/switch-gateway"]["spec"]["selector"]["matchLabels"] == labels
        scaled = built["HorizontalPodAutoscaler/switch-gateway"]["spec"]
        assert scaled["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "switch-gateway"}
        assert "replicas" not in deployment["spec"], "each deployment would undo what the autoscaler did"
        (metric,) = scaled["metrics"]
        assert metric["resource"]["name"] == "cpu"
        assert scaled["minReplicas"] > 1

    def test_clients_reach_the_gateway_and_not_the_api(self, built: dict[str, Any]) -> None:
        inside = built["NetworkPolicy/switch-gateway"]["spec"]
        clients = built["NetworkPolicy/switch-gateway-clients"]["spec"]
        (proxy,) = proxies(K8S / "examples" / "gateway")
        (route,) = proxy.settings.routes
        assert route.listen is not None
        (listen, _) = inside["ingress"]
        assert listen["from"] == [{"podSelector": clients["podSelector"]}]
        assert [port["port"] for port in listen["ports"]] == [route.listen.port]
        assert route.allow_remote_clients
        assert clients["egress"][-1]["to"] == [{"podSelector": inside["podSelector"]}]
        assert not any("ipBlock" in peer for rule in clients["egress"] for peer in rule["to"])

    def test_endpoints_have_time_to_be_withdrawn(self, built: dict[str, Any]) -> None:
        (proxy,) = proxies(K8S / "examples" / "gateway")
        assert proxy.settings.shutdown.drain_delay >= 5


@pytest.mark.parametrize("name", ["network-policy", "gateway", "fleet", "cronjob-fleet"])
def test_network_policy_lets_out_dns_https_beyond_the_cluster_the_token_store_and_nothing_else(name: str) -> None:
    documents = build(K8S / "examples" / name)
    (policy,) = [
        each["spec"]
        for each in documents
        if each["kind"] == "NetworkPolicy" and each["metadata"]["name"] in {"app", "import", "switch-gateway"}
    ]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    (pod,) = [each for each in documents if pod_of(each)]
    assert policy["podSelector"]["matchLabels"] == labels_of(pod)
    dns, https, *server = policy["egress"]
    (proxy,) = proxies(K8S / "examples" / name)
    store = proxy.settings.token_store
    assert store is not None
    assert len(server) == (store.redis is not None)
    if store.redis is not None:
        assert [port["port"] for port in server[0]["ports"]] == [store.redis.url.port]
        ((peer),) = server[0]["to"]
        namespace = peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
        assert f"//valkey.{namespace}.svc:" in proxy.config
        assert peer["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "valkey"}
    assert {(port["port"], port["protocol"]) for port in dns["ports"]} == {(53, "UDP"), (53, "TCP")}
    (block,) = https["to"]
    assert {"10.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"} <= set(block["ipBlock"]["except"])
    assert [port["port"] for port in https["ports"]] == [443]
