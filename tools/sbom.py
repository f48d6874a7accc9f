"""`make sbom`: writes dist/switch_proxy-VERSION.cdx.json, the bill of materials of an installed wheel (CycloneDX 1.6)."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from tools.installation import LOCK, ROOT, ReleaseError, install, release_tool, run, version

_SPECIFICATION: Final = "1.6"
"""The version of CycloneDX; scanners of 2025 read it."""


def with_version(bill: dict[str, Any], said: str) -> dict[str, Any]:
    """Return the bill with the package's version, which is not in pyproject.toml."""
    about = bill["metadata"]["component"] | {"version": said, "purl": f"pkg:pypi/switch-proxy@{said}"}
    return bill | {"metadata": bill["metadata"] | {"component": about}}


def locked(lock: str) -> set[str]:
    """Return the packages of a lock file, each as name==version with a normalized name (PEP 503)."""
    return {f"{_normal(name)}=={number}" for name, number in re.findall(r"^([\w.-]+)==(\S+)", lock, re.MULTILINE)}


def listed(bill: dict[str, Any]) -> set[str]:
    """Return the packages of a bill, in the same form."""
    return {f"{_normal(component['name'])}=={component['version']}" for component in bill["components"]}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> int:
    """Write the bill and return the exit code."""
    dist = ROOT / "dist"
    wheel = dist / f"switch_proxy-{version()}-py3-none-any.whl"
    written = dist / f"switch_proxy-{version()}.cdx.json"
    if not wheel.exists():
        print(f"sbom: there is no {wheel.name} in dist/; make dist builds it", file=sys.stderr)
        return 1
    try:
        with tempfile.TemporaryDirectory(prefix="switch-proxy-sbom-") as folder:
            python = install(Path(folder) / "environment", wheel)
            # Without times and serial numbers, so that the same installation gives the same file.
            command = [
                *(release_tool("cyclonedx-py"), "environment", str(python)),
                *("--pyproject", str(ROOT / "pyproject.toml"), "--mc-type", "application"),
                *("--spec-version", _SPECIFICATION, "--output-format", "JSON", "--output-reproducible"),
                *("--output-file", str(written)),
            ]
            run(command)
        bill = with_version(json.loads(written.read_text(encoding="utf-8")), version())
        # Packages for other platforms are not installed; packages outside the lock file must not be.
        if unknown := listed(bill) - locked(LOCK.read_text(encoding="utf-8")):
            raise ReleaseError(f"it lists packages that are not in {LOCK.name}: {', '.join(sorted(unknown))}")
        written.write_text(json.dumps(bill, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    except (ReleaseError, OSError) as error:
        print(f"sbom: {error}", file=sys.stderr)
        return 1
    print(f"dist/{written.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
