"""How `make sbom` changes the output of cyclonedx-py."""

from __future__ import annotations

from tools.sbom import listed, locked, with_version


def test_bill_is_about_a_version() -> None:
    bill = {"metadata": {"component": {"name": "switch-proxy", "type": "application"}, "tools": {}}, "components": []}

    about = with_version(bill, "1.2.3")["metadata"]["component"]

    assert (about["version"], about["purl"], about["type"]) == ("1.2.3", "pkg:pypi/switch-proxy@1.2.3", "application")


def test_names_are_compared_as_the_index_does() -> None:
    """PEP 503: case, underscores and dots do not distinguish packages."""
    lock = "# a comment\nprometheus-client==0.26.0 \\\n    --hash=sha256:00\n    # via switch-proxy\nattrs==26.1.0 \\\n"
    bill = {"components": [{"name": "Prometheus_Client", "version": "0.26.0"}, {"name": "evil", "version": "1"}]}

    assert locked(lock) == {"prometheus-client==0.26.0", "attrs==26.1.0"}
    assert listed(bill) - locked(lock) == {"evil==1"}
