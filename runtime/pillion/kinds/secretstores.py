"""Secret stores: named secrets, read only."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from pillion.kinds.component import Component


class SecretStore(Component):
    """What every secret store promises. Values never appear in its errors or logs."""

    @abstractmethod
    async def get(self, name: str, metadata: Mapping[str, str]) -> Mapping[str, str]:
        """Return a secret: one value under its own name, or several under theirs.

        Raises:
            NotFound: there is no such secret.
            Unavailable: the store cannot be read.
        """

    @abstractmethod
    async def bulk(self, metadata: Mapping[str, str]) -> Mapping[str, Mapping[str, str]]:
        """Return every secret that may be read, by name.

        Raises:
            Unavailable: the store cannot be read.
        """


class MultiValued(SecretStore):
    """Secrets may have several values."""
