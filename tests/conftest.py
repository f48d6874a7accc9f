"""For every test: the machine's settings have no effect, and no test is judged by its duration."""

from __future__ import annotations

import os

from hypothesis import settings

# A busy machine is not a defect. Speed is tested by a bound on the work, or measured (benchmarks/).
settings.register_profile("switch-proxy", deadline=None, print_blob=True)
settings.load_profile("switch-proxy")

# The proxy and the clients of tests read these; the machine's values are not meant for them.
for _name in ("SWITCH_PROXY_CONFIG", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "NO_COLOR", "FORCE_COLOR"):
    os.environ.pop(_name, None)
    os.environ.pop(_name.lower(), None)
