"""`python -m soak`."""

from __future__ import annotations

import sys

from soak import run, shared

if __name__ == "__main__":
    is_shared = "--shared" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--shared"]
    sys.exit(shared.main(arguments) if is_shared else run.main(arguments))
