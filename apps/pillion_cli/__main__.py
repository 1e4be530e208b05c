"""``python -m pillion_cli``: the same as ``pillion``."""

from __future__ import annotations

import sys

from pillion_cli.main import main

if __name__ == "__main__":
    sys.exit(main())
