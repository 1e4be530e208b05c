"""Which key a store sees for the key that an app names.

Stores are shared, so the component's ``keyPrefix`` goes before every key: ``appid`` (the
default), ``name``, ``namespace``, ``none``, or any other text as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

SEPARATOR = "||"


@dataclass(frozen=True, slots=True)
class KeyPrefix:
    """What comes before every key, with its separator; empty for none."""

    text: str

    @classmethod
    def of(cls, strategy: str, *, app_id: str, namespace: str, component: str) -> KeyPrefix:
        """Return the prefix that ``strategy``, the setting ``keyPrefix``, stands for."""
        word = strategy.strip().lower()
        if word == "none":
            return cls("")
        known = {
            "": app_id,
            "appid": app_id,
            "name": component,
            "namespace": f"{namespace}.{app_id}",
        }
        return cls(known.get(word, strategy) + SEPARATOR)

    def stored(self, key: str) -> str:
        """Return the key in the store."""
        return self.text + key

    def bare(self, stored: str) -> str:
        """Return the key as apps know it, also when another prefix is before it."""
        if self.text and stored.startswith(self.text):
            return stored[len(self.text) :]
        _, separator, key = stored.partition(SEPARATOR)
        return key if separator else stored

    def owns(self, stored: str) -> bool:
        """Tell whether an app could name the key: it has this prefix and no other."""
        return stored.startswith(self.text) and SEPARATOR not in stored[len(self.text) :]

    def lock(self, resource: str) -> str:
        """Return what a lock store knows the resource as."""
        return f"lock{SEPARATOR}{self.text}{resource}"


def is_legal(key: str) -> bool:
    """Tell whether an app may use ``key``."""
    return SEPARATOR not in key


def why_illegal(key: str) -> str:
    """Return what is wrong with a key that is not legal."""
    return f"input key/keyPrefix '{key}' can't contain '{SEPARATOR}'"


__all__ = ["SEPARATOR", "KeyPrefix", "is_legal", "why_illegal"]
