"""Which secrets an app may read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

SecretAccess: TypeAlias = Callable[[str, str], bool]
"""Says for (store, secret) whether the app may read it."""


@dataclass(frozen=True, slots=True)
class SecretScope:
    """What is allowed of one store (``spec.secrets.scopes``).

    Attributes:
        store: the component's name.
        default_allowed: what counts for secrets in no list.
        allowed: when there are some, no other secret may be read.
        denied: secrets that may not be read; not looked at when ``allowed`` has some.
    """

    store: str
    default_allowed: bool = True
    allowed: frozenset[str] = frozenset()
    denied: frozenset[str] = frozenset()

    def allows(self, secret: str) -> bool:
        """Tell whether ``secret`` may be read."""
        if self.allowed:
            return secret in self.allowed
        return secret not in self.denied and self.default_allowed


def secret_access(scopes: Iterable[SecretScope]) -> SecretAccess:
    """Return the rule of all scopes; a store without one is open."""
    by_store = {scope.store: scope for scope in scopes}

    def allowed(store: str, secret: str) -> bool:
        scope = by_store.get(store)
        return scope is None or scope.allows(secret)

    return allowed


def everything(_store: str, _secret: str) -> bool:
    """Allow every secret."""
    return True


__all__ = ["SecretAccess", "SecretScope", "everything", "secret_access"]
