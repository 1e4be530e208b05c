"""Lock stores: one holder for a resource, for a time."""

from __future__ import annotations

import enum
from abc import abstractmethod

from pillion.kinds.component import Component


class Unlocked(enum.Enum):
    """What became of an unlock; the numbers are those of Dapr's API."""

    SUCCESS = 0
    DOES_NOT_EXIST = 1
    BELONGS_TO_OTHERS = 2


class LockStore(Component):
    """What every lock store promises.

    At most one owner holds a resource at any time, whatever fails. A lock ends at its expiry by
    the engine's clock. The fencing token of a resource grows with every acquisition, by whomever,
    so that whatever the lock protects can refuse a holder that slept past its expiry.
    """

    @abstractmethod
    async def lock(self, resource: str, owner: str, expiry: float) -> int | None:
        """Take the lock for ``expiry`` seconds; return its fencing token, None when it is held.

        An owner that holds it already does not get it again: locks are not re-entrant.

        Raises:
            Unavailable: the engine cannot be reached in time; the lock may be held until it
                expires.
        """

    @abstractmethod
    async def renew(self, resource: str, owner: str, expiry: float) -> bool:
        """Hold on for ``expiry`` seconds from now; False when ``owner`` does not hold it.

        Raises:
            Unavailable: the engine cannot be reached in time.
        """

    @abstractmethod
    async def unlock(self, resource: str, owner: str) -> Unlocked:
        """Give the lock up.

        Raises:
            Unavailable: the engine cannot be reached in time.
        """
