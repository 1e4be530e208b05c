"""One component, opened and closed in a task of its own.

What a component opens inside of itself (task groups, cancel scopes) must be left by the task that
entered it, so the task that opens it waits until it is to be closed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from pillion.config.component import ComponentSpec
from pillion.errors import Failure, Invalid, Unavailable
from pillion.kinds.component import Component, Context
from pillion.kinds.index import Kind
from pillion.kinds.opened import Opened

log = logging.getLogger("pillion.components")

CLOSE_TIMEOUT = 10.0
"""Seconds that a component is given to close."""


class Holder:
    """One component.

    Args:
        spec: as declared.
        kind: its kind.
        component: its class.
        texts: its metadata with secrets, as it was before templates were filled in.
        runtime_metadata: what the runtime acts on.
        context: what it is opened with.

    Attributes:
        opened: what blocks are given; None until it is open.
        failure: why it is not open, or is so no longer.
    """

    def __init__(
        self,
        spec: ComponentSpec,
        kind: Kind,
        component: type[Component],
        texts: Mapping[str, str],
        runtime_metadata: Mapping[str, str],
        context: Context,
    ) -> None:
        self.spec = spec
        self.kind = kind
        self.texts = texts
        self.opened: Opened[Any] | None = None
        self.failure: Failure | None = None
        self._component = component
        self._runtime_metadata = runtime_metadata
        self._context = context
        self._settled = asyncio.Event()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to open it, in a task that :meth:`close` awaits."""
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._hold(), name=f"component {self.spec.name}")

    async def settled(self) -> None:
        """Return when it is open.

        Raises:
            Failure: it cannot be opened.
        """
        await self._settled.wait()
        if self.failure is not None:
            raise self.failure

    async def close(self) -> None:
        """Close it, and return when it is closed."""
        self._closing.set()
        task = self._task
        if task is None or task.done():
            return
        if self.opened is None and not self._settled.is_set():
            task.cancel()
        _, pending = await asyncio.wait({task}, timeout=CLOSE_TIMEOUT)
        if pending:
            log.warning("component %s did not close in %g s", self.spec.name, CLOSE_TIMEOUT)
            task.cancel()
            await asyncio.wait({task}, timeout=CLOSE_TIMEOUT)

    async def _hold(self) -> None:
        try:
            await self._open_until_closed()
        except asyncio.CancelledError:
            self.failure = self.failure or self._failed("its opening was called off")
            if not self._closing.is_set():
                raise
        except Failure as failure:
            self.failure = failure
        except Exception as error:
            log.exception("component %s broke down", self.spec.name)
            why = f"{type(error).__name__}, see its log"
            self.failure = self._failed(f"it broke down: {why}")
        finally:
            self._settled.set()

    async def _open_until_closed(self) -> None:
        spec = self.spec
        manager = self._component.open(self._context)
        try:
            async with asyncio.timeout(spec.init_timeout):
                component = await manager.__aenter__()
        except TimeoutError:
            raise self._failed(
                f"it was not open after {spec.init_timeout:g} s, its initTimeout"
            ) from None
        error: BaseException | None = None
        try:
            self.opened = Opened(
                component, spec.name, spec.type_name, spec.version, self._runtime_metadata
            )
            self._settled.set()
            await self._closing.wait()
        except BaseException as raised:
            error = raised
            raise
        finally:
            await manager.__aexit__(type(error) if error else None, error, None)

    def _failed(self, why: str) -> Failure:
        return Unavailable(f"component {self.spec.name}: {why}", reason="component")


def lines_of(spec: ComponentSpec, failure: Failure) -> list[str]:
    """Return what went wrong with ``spec``, each line with its place."""
    mark = f"{spec.mark}: " if spec.mark else ""
    if isinstance(failure, Invalid) and failure.reason == "configuration":
        return failure.message.splitlines()
    return [f"{mark}{line}" for line in failure.message.splitlines()]
