"""``python -m pillion``: the runtime alone, with the flags of ``pillion sidecar``."""

from __future__ import annotations

import sys

from pillion.sidecar import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
