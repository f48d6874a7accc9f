"""What an import of the core does: nothing."""

from __future__ import annotations

import importlib
import pkgutil
import threading

from switch_proxy import core


def test_every_module_is_imported_without_starting_anything() -> None:
    """The folder's conftest refuses sockets; threads would show here."""
    before = threading.active_count()
    names = [module.name for module in pkgutil.walk_packages(core.__path__, f"{core.__name__}.")]
    for name in names:
        importlib.import_module(name)
    assert "switch_proxy.core.http.request" in names
    assert threading.active_count() == before
