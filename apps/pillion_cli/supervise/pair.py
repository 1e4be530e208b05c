"""One app and the runtime beside it, from start to end.

The runtime comes first: with no app port, the app is started once it can call out, so that its
first line may. At the end the runtime goes first, too: it takes no new calls and finishes those in
flight while the app still lives; then the app is asked to stop, and killed when it does not.
"""

from __future__ import annotations

import asyncio
import enum
import os
import signal

from pillion.errors import Failure
from pillion_cli import instances
from pillion_cli.supervise.changes import Changes
from pillion_cli.supervise.child import Child, NotStarted, described
from pillion_cli.supervise.console import FAINT, PALETTE, Console, Sink
from pillion_cli.supervise.guardian import Guardian
from pillion_cli.supervise.launch import Destination, Launch
from pillion_cli.supervise.probe import Probe
from pillion_cli.supervise.stop import Stop

READY_TIMEOUT = 60.0
"""Seconds that a runtime has to become ready."""

APP_GRACE = 10.0
"""Seconds between asking an app to stop and killing it."""

_RUNTIME_SLACK = 2.0
"""Seconds that a runtime has beyond those its flags give to calls in flight."""

_POLL = 0.02


class Cause(enum.Enum):
    """Why a pair ends."""

    ASKED = enum.auto()
    APP = enum.auto()
    RUNTIME = enum.auto()
    START = enum.auto()


class Pair:
    """One app and its runtime.

    Args:
        launch: what to start.
        console: where the output goes.
        guardian: who ends the children when this process is killed.
        stop: who says that it is over.
        number: tells the colours of several pairs apart.

    Attributes:
        settled: set once both run, or will not.
        broken: True when they could not be started.
        status: the outcome, 0 for success; known when :meth:`run` returns.
    """

    def __init__(
        self, launch: Launch, console: Console, guardian: Guardian, stop: Stop, number: int = 0
    ) -> None:
        self.launch = launch
        self.broken = False
        self.settled = asyncio.Event()
        self.status = 0
        self._console = console
        self._stop = stop
        self._changes = Changes()
        stop.subscribe(self._changes)
        wanted = launch.wanted
        self._title = f" - {wanted.title}" if wanted.title else ""
        app_sink = self._sink("APP", wanted.app_log, PALETTE[number % len(PALETTE)])
        self._runtime_sink = self._sink("PILLION", wanted.runtime_log, FAINT)
        self._app = Child("the app", app_sink, guardian, self._changes)
        self._runtime = Child("the runtime", self._runtime_sink, guardian, self._changes)
        self._probe = Probe(launch.options)

    async def run(self) -> None:
        """Start both, watch them, end both."""
        try:
            try:
                if await self._bring_up():
                    await self._introduce()
                else:
                    self.broken = self._cause() is Cause.RUNTIME
                self.settled.set()
                await self._changes.until(self._over)
            except NotStarted as problem:
                self.broken = True
                self._complain(problem.message)
                self.status = problem.status
            await self._wind_down()
        finally:
            for child in (self._app, self._runtime):
                child.abandon()
            self.settled.set()

    # Starting.

    async def _bring_up(self) -> bool:
        """Start both and return True, or False when it was over before the runtime was ready."""
        launch = self.launch
        self._console.say(f'Validating config and starting app "{launch.options.app_id}"')
        await self._runtime.start(
            launch.runtime_command, env=launch.runtime_env, directory=launch.wanted.directory
        )
        if launch.options.app_port:
            await self._start_app()
        if not await self._ready():
            return False
        self._announce()
        if not launch.options.app_port:
            await self._start_app()
        return True

    async def _start_app(self) -> None:
        wanted = self.launch.wanted
        if wanted.command:
            await self._app.start(
                wanted.command,
                env=self.launch.app_env,
                directory=wanted.directory,
                # A terminal's input is for one process at a time, and not for its background.
                inherit_stdin=not wanted.title and not os.isatty(0),
            )

    async def _ready(self) -> bool:
        deadline = asyncio.get_running_loop().time() + READY_TIMEOUT
        while not self._over():
            if await self._probe.ready():
                return True
            if asyncio.get_running_loop().time() > deadline:
                raise NotStarted(f"the runtime was not ready within {READY_TIMEOUT:g} seconds", 1)
            await self._changes.until(self._over, _POLL)
        return False

    def _announce(self) -> None:
        options, socket = self.launch.options, self._probe.socket
        where = f"Socket: {socket}" if socket else f"HTTP Port: {options.http_port}"
        self._console.say(
            f'Started Dapr with app id "{options.app_id}". {where}. gRPC Port: {options.grpc_port}'
        )
        wanted = self.launch.wanted
        folder = next(
            (log.file.parent for log in (wanted.app_log, wanted.runtime_log) if log.file), None
        )
        if folder is not None:
            self._console.say(f"Writing log files to directory : {folder}")

    async def _introduce(self) -> None:
        """Tell the runtime, and who lists the runtimes, whom it rides with."""
        wanted = self.launch.wanted
        metadata = {
            "cliPID": str(os.getpid()),
            "appPID": str(self._app.pid or ""),
            "appCommand": " ".join(wanted.command),
            "runTemplatePath": wanted.template[0],
            "runTemplateName": wanted.template[1],
            "appLogPath": str(wanted.app_log.file or ""),
            "daprdLogPath": str(wanted.runtime_log.file or ""),
        }
        await self._probe.tell({name: text for name, text in metadata.items() if text})
        try:
            await asyncio.to_thread(
                instances.introduce,
                self.launch.options.home,
                runtime_pid=self._runtime.pid,
                app_pid=self._app.pid,
                run_template=wanted.template[0],
            )
        except Failure as failure:  # the apps run all the same
            self._complain(failure.message)

    # Ending.

    def _over(self) -> bool:
        return self._cause() is not None

    def _cause(self) -> Cause | None:
        if self._app.status is not None:
            return Cause.APP
        if self._runtime.status is not None:
            return Cause.RUNTIME
        return Cause.ASKED if self._stop.level else None

    async def _wind_down(self) -> None:
        """End what still runs, the runtime first, and settle the status."""
        cause = self._cause() or Cause.START
        runtime_status = self._runtime.status
        options = self.launch.options
        drain = options.graceful_shutdown + options.block_shutdown
        await self._end(self._runtime, signal.SIGTERM, drain + _RUNTIME_SLACK)
        await self._end(self._app, self._stop.signum, APP_GRACE)
        if cause is Cause.RUNTIME and runtime_status:
            self._complain(f"the runtime {described(runtime_status)}{self._consequence()}")
            if self._runtime_sink.hidden:
                self._complain(f"its last line was: {self._runtime_sink.hidden}")
            self.status = runtime_status
        elif cause is not Cause.START:
            self.status = self._app_status(cause)
        self._report(cause)

    def _consequence(self) -> str:
        if not self.launch.wanted.command:
            return ""
        return ", so the app was stopped" if self._app.pid else ", so the app was not started"

    def _app_status(self, cause: Cause) -> int:
        """Return what the app's end means for ours."""
        if not self.launch.wanted.command:
            return self._runtime.status or 0
        if not self._app.pid:
            return 128 + self._stop.signum
        status = self._app.status or 0
        # One app's status is passed on as it is. Of several, or when nobody sent us a signal, an
        # app that ended because we asked it to has not failed.
        forgiven = cause is Cause.RUNTIME or (cause is Cause.ASKED and self._title)
        return 0 if forgiven and self._as_asked(status) else status

    def _as_asked(self, status: int) -> bool:
        return status in (0, 128 + self._stop.signum)

    def _report(self, cause: Cause) -> None:
        if self._runtime.status == 0:
            self._console.say(f"Exited Dapr successfully{self._title}")
        status = self._app.status
        if status == 0 or (status and cause is not Cause.APP and self._as_asked(status)):
            self._console.say(f"Exited App successfully{self._title}")
        elif status:
            self._complain(f"the app {described(status)}")

    async def _end(self, child: Child, signum: int, grace: float) -> None:
        if not await child.end(signum, grace, hurry=lambda: self._stop.level > 1):
            self._complain(f"{child.name} did not end within {grace:g} s and was killed")

    # Showing.

    def _complain(self, text: str) -> None:
        title = self.launch.wanted.title
        self._console.complain(f"pillion run: {title + ': ' if title else ''}{text}")

    def _sink(self, word: str, log: Destination, colour: bytes) -> Sink:
        prefix = f"== {word}{self._title} == " if log.console else None
        return Sink(self._console, prefix=prefix, colour=colour, log=log.file)
