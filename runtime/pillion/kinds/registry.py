"""The registry of instances: who runs where, kept true by leases."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

from pillion.kinds.component import Component


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One running runtime with its app.

    Attributes:
        id: unique for ever; a restarted process is a new instance.
        app_id: the app.
        namespace: where it lives.
        host: the address of its mesh listener.
        port: the port of its mesh listener.
        labels: such as ``{"version": "v1"}``.
        protocol: the app's protocol; empty when it has no server and takes no calls.
        healthy: False while the app fails its probes or has not opened its port.
        pid: the runtime's process on ``node``.
        node: the machine since its boot; equal nodes share process ids and a clock.
        since: when it registered, in seconds since the epoch.
    """

    id: str
    app_id: str
    namespace: str
    host: str
    port: int
    labels: Mapping[str, str] = field(default_factory=dict)
    protocol: str = "http"
    healthy: bool = True
    pid: int = 0
    node: str = ""
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All instances of the watched app; what a watcher knew before is void."""

    instances: tuple[Instance, ...]


@dataclass(frozen=True, slots=True)
class Put:
    """An instance is new or changed."""

    instance: Instance


@dataclass(frozen=True, slots=True)
class Gone:
    """An instance left or its lease ran out."""

    id: str


Change: TypeAlias = Snapshot | Put | Gone


class Registry(Component):
    """Instances with leases, and watches on the apps that are called."""

    shared: ClassVar[bool] = True
    """Whether processes that open it with the same settings see one another's instances."""

    @abstractmethod
    def registered(
        self, instance: Instance, lease: float
    ) -> AbstractAsyncContextManager[Registration]:
        """Keep ``instance`` registered while the context is open.

        The lease of ``lease`` seconds is renewed by the registry itself until the context is left;
        leaving removes the instance at once. An instance whose process is killed disappears within
        its lease. When the store forgets the instance (deleted by hand, restored from a copy), the
        next renewal registers it again.

        Raises:
            Unavailable: the store cannot be written.
        """

    @abstractmethod
    def watch(self, namespace: str, app_id: str) -> AsyncGenerator[Change, None]:
        """Yield a Snapshot, then every change of this app's instances, in order, without end.

        Watches cost nothing for apps that are not watched. After trouble with the store the
        iterator goes on with a new Snapshot; it does not raise for it. Closing the iterator ends
        the watch.
        """

    @abstractmethod
    async def instances(self, namespace: str | None = None) -> Sequence[Instance]:
        """Return the live instances of one namespace, or of all.

        Raises:
            Unavailable: the store cannot be read.
        """

    @abstractmethod
    async def report_dead(self, instance: Instance) -> None:
        """Say that a connection to ``instance`` broke.

        The registry removes it when it can prove that the process is gone (same ``node``, no such
        process) and leaves it to its lease otherwise.
        """


class Registration:
    """A live registration."""

    @abstractmethod
    async def update(self, *, healthy: bool) -> None:
        """Publish the app's health; seen elsewhere as a Put.

        Raises:
            Unavailable: the store cannot be written; the change is carried by the next renewal.
        """
