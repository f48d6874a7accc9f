"""What holds for every test: the machine's own settings change nothing, and no test is judged by how long it takes."""

from __future__ import annotations

import os

from hypothesis import settings

# A busy machine is no defect. What must be quick is held by a bound on its work, or measured (benchmarks/).
settings.register_profile("switch-proxy", deadline=None, print_blob=True)
settings.load_profile("switch-proxy")

# The proxy reads these, and so do the clients that tests use; the machine's are not meant for either.
for _name in ("SWITCH_PROXY_CONFIG", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "NO_COLOR", "FORCE_COLOR"):
    os.environ.pop(_name, None)
    os.environ.pop(_name.lower(), None)
