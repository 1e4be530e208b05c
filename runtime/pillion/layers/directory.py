"""The watches on every app this one calls, opened by the first call and closed when idle."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from pillion.call import Target
from pillion.errors import Failure, Overloaded
from pillion.kinds.registry import Instance, Registry
from pillion.layers.balance import WatchedApp
from pillion.policy.balance import EndpointSet

log = logging.getLogger("pillion.discovery")

MAX_APPS = 4096
"""Apps watched at one time; app ids come from requests, so there must be an end."""
IDLE = 60.0
"""Seconds without a call after which an app without instances is forgotten."""
MAX_REPORTS = 256


class Directory:
    """Owns the watches, and tells the registry of instances that seem dead.

    An async context manager: leaving it ends every watch.

    Args:
        registry: where instances are registered.
        endpoints: makes an empty set for a newly watched app.
        forgotten: told of an app whose watch was closed.
    """

    __slots__ = ("_apps", "_endpoints", "_forgotten", "_group", "_registry", "_reports")

    def __init__(
        self,
        registry: Registry,
        endpoints: Callable[[], EndpointSet],
        forgotten: Callable[[Target], None],
    ) -> None:
        self._registry = registry
        self._endpoints = endpoints
        self._forgotten = forgotten
        self._apps: dict[Target, WatchedApp] = {}
        self._group = asyncio.TaskGroup()
        self._reports = 0

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for app in self._apps.values():
            if app.task is not None:
                app.task.cancel()
        # What ended the body is its own business: told to the group, it would come out wrapped.
        await self._group.__aexit__(None, None, None)

    def watch(self, target: Target) -> WatchedApp:
        """Return the app's endpoints, watched from now on.

        Raises:
            Overloaded: too many apps are watched.
        """
        app = self._apps.get(target)
        if app is None:
            if len(self._apps) >= MAX_APPS:
                self.sweep(0.0)
            if len(self._apps) >= MAX_APPS:
                raise Overloaded(f"this runtime calls {MAX_APPS} apps already")
            app = WatchedApp(target, self._endpoints())
            app.last_used = time.monotonic()
            self._apps[target] = app
            app.task = self._group.create_task(
                app.follow(self._registry), name=f"watch {target.name}"
            )
        return app

    def sweep(self, idle: float = IDLE) -> None:
        """Forget apps that have no instances and were not called for ``idle`` seconds."""
        before = time.monotonic() - idle
        for target, app in list(self._apps.items()):
            if app.last_used <= before and not len(app.endpoints) and app.task is not None:
                del self._apps[target]
                app.task.cancel()
                self._forgotten(target)

    def broken(self, instance: Instance) -> None:
        """A connection to ``instance`` broke: prefer others, and have the registry look."""
        app = self._apps.get(Target("app", instance.app_id, instance.namespace))
        if app is not None:
            app.endpoints.suspect(instance.id, time.monotonic())
        if self._reports < MAX_REPORTS:
            self._reports += 1
            self._group.create_task(self._report(instance), name=f"report {instance.app_id}")

    async def _report(self, instance: Instance) -> None:
        try:
            await self._registry.report_dead(instance)
        except Failure as failure:
            log.debug("the registry did not take a report: %s", failure.message)
        finally:
            self._reports -= 1

    @property
    def apps(self) -> int:
        """Apps watched now."""
        return len(self._apps)
