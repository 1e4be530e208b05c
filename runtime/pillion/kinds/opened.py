"""How a building block reaches the components of its kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from pillion.kinds.component import Component

K = TypeVar("K", bound=Component)


@dataclass(frozen=True, slots=True, eq=False)
class Opened(Generic[K]):
    """A component that is open.

    Attributes:
        component: what keeps the promise.
        name: its name in the YAML.
        type_name: its type, such as ``state.sqlite``.
        version: as the YAML says, ``v1`` without.
        runtime_metadata: the metadata that the runtime acts on itself, such as ``keyPrefix``; by
            their documented names, and only those that were given.
    """

    component: K
    name: str
    type_name: str
    version: str
    runtime_metadata: Mapping[str, str]


class Components(Protocol):
    """The open components of one runtime.

    What ``find`` gives stays open until the call in which it was asked for has ended, so it is
    asked for once in every call and never kept. A watch ends when its component is closed.
    """

    def find(self, kind: type[K], name: str) -> Opened[K] | None:
        """Return the component of ``kind`` called ``name``, None when there is none.

        Raises:
            Unavailable: it has broken down.
        """

    def names(self, kind: type[Component]) -> Sequence[str]:
        """Return the names of the components of ``kind``; empty when none is configured."""
