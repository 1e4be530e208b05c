"""One runtime under cProfile: ``python -m tests.bench.profiled FILE FLAGS…``.

SIGUSR1 starts the profile, SIGUSR2 ends it and writes it to FILE; the flags are those of
``pillion sidecar``.
"""

from __future__ import annotations

import cProfile
import signal
import sys
from pathlib import Path

from pillion.sidecar import main


def serve(path: Path, flags: list[str]) -> int:
    """Run the runtime in this process until it ends; returns its exit status."""
    profile = cProfile.Profile()

    def start(_number: int, _frame: object) -> None:
        profile.enable()

    def stop(_number: int, _frame: object) -> None:
        profile.disable()
        unfinished = path.with_suffix(".part")
        profile.dump_stats(unfinished)
        unfinished.rename(path)

    signal.signal(signal.SIGUSR1, start)
    signal.signal(signal.SIGUSR2, stop)
    return main(flags)


if __name__ == "__main__":
    sys.exit(serve(Path(sys.argv[1]), sys.argv[2:]))
