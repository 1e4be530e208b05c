"""All pairs of one ``pillion run``: started in order, ended together."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from pillion_cli.supervise.console import Console
from pillion_cli.supervise.guardian import Guardian
from pillion_cli.supervise.launch import Launch
from pillion_cli.supervise.pair import Pair
from pillion_cli.supervise.stop import Stop

OUT = 1
ERR = 2
"""The descriptors, which are there even where Python has no sys.stdout for them."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def supervise(launches: Sequence[Launch], guardian: Guardian) -> int:
    """Run until the end and return the exit status: the app's, or of several the first failure."""
    console = Console(OUT, ERR, colour=_colours(os.environ))
    try:
        return asyncio.run(_supervise(launches, console, guardian))
    finally:
        console.close()


def _colours(environ: Mapping[str, str]) -> bool:
    """Tell whether to colour the output (no-color.org)."""
    return os.isatty(OUT) and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


async def _supervise(launches: Sequence[Launch], console: Console, guardian: Guardian) -> int:
    stop = Stop()
    pairs = [
        Pair(launch, console, guardian, stop, number) for number, launch in enumerate(launches)
    ]
    with _signals(stop, console):
        async with asyncio.TaskGroup() as tasks:
            for pair in pairs:
                tasks.create_task(pair.run())
                await pair.settled.wait()
                if pair.broken:
                    stop.ask(signal.SIGTERM)  # one that does not come up ends the others
                if stop.level:
                    break
            else:
                console.say(_welcome(pairs))
    return next((pair.status for pair in pairs if pair.status), 0)


def _welcome(pairs: Sequence[Pair]) -> str:
    if not any(pair.launch.wanted.command for pair in pairs):
        return "You're up and running! The logs of the runtime appear here."
    return "You're up and running! Both Dapr and your app logs will appear here."


@contextmanager
def _signals(stop: Stop, console: Console) -> Iterator[None]:
    """Turn the signals that end a program into a stop."""
    loop = asyncio.get_running_loop()
    # What is ignored stays so: nohup, and background jobs of a shell.
    wanted = [each for each in SIGNALS if signal.getsignal(each) != signal.SIG_IGN]

    def received(signum: int) -> None:
        if stop.ask(signum) and stop.level == 1 and signum == signal.SIGINT:
            console.say("Stopping: calls in flight are finished first (Ctrl-C again stops at once)")

    for each in wanted:
        loop.add_signal_handler(each, received, each)
    try:
        yield
    finally:
        # All is over. One that comes now must not spoil the status.
        signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
        for each in wanted:
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, wanted)
