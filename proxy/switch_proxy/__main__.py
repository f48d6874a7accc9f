"""`python -m switch_proxy` is `switch-proxy`."""

import sys

from switch_proxy.cli import main

if __name__ == "__main__":
    sys.exit(main())
