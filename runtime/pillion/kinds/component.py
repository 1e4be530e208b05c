"""What every component promises, whatever its kind.

A component opens as an async context manager that yields a working object; there are no half-open
ones. It raises the failures of ``pillion.errors`` and translates those of its client library at
the top of its file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Where a component is opened.

    Attributes:
        name: the component's name in the YAML.
        home: ``$PILLION_HOME``, 0700; embedded components keep their files below it.
        app_id: the app this runtime rides beside.
        namespace: its namespace.
        settings: the component's metadata, secrets resolved.
    """

    name: str
    home: Path
    app_id: str
    namespace: str = "default"
    settings: Mapping[str, Any] = field(default_factory=dict)


class Component(ABC):
    """The promise that all kinds share."""

    requires: ClassVar[tuple[str, ...]] = ()
    """Servers a test must start, such as ``("nats",)``."""

    example: ClassVar[Mapping[str, Any]] = {}
    """Settings the conformance suite opens the component with."""

    @classmethod
    @abstractmethod
    def open(cls, context: Context) -> AbstractAsyncContextManager[Self]:
        """Open the component; leaving the context closes it.

        Raises:
            Invalid: a setting is missing or wrong.
            Unavailable: what it stands on cannot be reached or is damaged.
        """

    @abstractmethod
    async def ping(self) -> None:
        """Return when the component can serve.

        Raises:
            Unavailable: it cannot.
        """
