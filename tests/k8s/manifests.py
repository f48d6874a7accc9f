"""The manifests of k8s/ as kustomize builds them, and the versions of Kubernetes that they support."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from tests.docs.pages import ROOT

if TYPE_CHECKING:
    from pathlib import Path

K8S: Final = ROOT / "k8s"

EXAMPLES: Final = tuple(sorted(path.parent for path in K8S.glob("examples/*/kustomization.yaml")))

SUPPORTED: Final = ("1.29", "1.33", "1.35", "1.36", "1.37")
"""The first two have native sidecars as beta and as stable; Kubernetes itself supports the others."""

WITH_POLICIES: Final = ("1.36", "1.37")
"""Versions with MutatingAdmissionPolicy in admissionregistration.k8s.io/v1."""


@cache
def find_builder() -> tuple[str, ...]:
    """Return the command that builds a kustomization. Skips if there is none."""
    if shutil.which("kubectl"):
        return ("kubectl", "kustomize")
    if shutil.which("kustomize"):
        return ("kustomize", "build")
    pytest.skip("no kubectl and no kustomize here")


@cache
def _build(folder: Path) -> str:
    done = subprocess.run([*find_builder(), str(folder)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def build(folder: Path) -> list[Any]:
    """Return the documents of a kustomization."""
    return list(yaml.safe_load_all(_build(folder)))


def read(*path: str) -> Any:
    """Return the only document of a file in k8s/."""
    return yaml.safe_load(K8S.joinpath(*path).read_text(encoding="utf-8"))


def pod_of(document: dict[str, Any]) -> Any:
    """Return the pod specification of a document, or None if it has none."""
    spec = document.get("spec", {})
    if document["kind"] == "Pod":
        return spec
    if document["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    return spec.get("template", {}).get("spec")


def containers_with(pod: dict[str, Any], volume: str) -> list[Any]:
    """Return the containers of a pod specification that mount a volume."""
    return [
        container
        for container in [*pod.get("initContainers", []), *pod["containers"]]
        if volume in {mount["name"] for mount in container.get("volumeMounts", [])}
    ]
