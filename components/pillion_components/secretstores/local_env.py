"""``secretstores.local.env``: secrets from the environment that the runtime was started with.

Every variable is a secret but ``APP_API_TOKEN`` and those that begin with ``DAPR_``, which are
the runtime's own.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import ClassVar, Self

from pillion.errors import NotFound
from pillion.kinds.component import Context
from pillion.kinds.secretstores import SecretStore
from pillion.kinds.settings import setting, settings_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What ``secretstores.local.env`` can be told."""

    prefix: str = setting(
        "only variables that begin with this are secrets, named without it",
        default="",
        example="MYAPP_",
    )


class LocalEnvSecretStore(SecretStore):
    """Environment variables as secrets."""

    settings: ClassVar[type] = Settings
    requires: ClassVar[tuple[str, ...]] = ("secret_environment",)

    def __init__(self, settings: Settings) -> None:
        self._prefix = settings.prefix

    @classmethod
    @asynccontextmanager
    async def open(cls, context: Context) -> AsyncIterator[Self]:
        """Open the environment.

        Raises:
            Invalid: a setting is wrong.
        """
        yield cls(settings_of(Settings, context.settings, context.name))

    async def ping(self) -> None:
        """Return: the environment is always there."""

    async def get(self, name: str, metadata: Mapping[str, str]) -> Mapping[str, str]:
        """Return the value of one variable; ``metadata`` is not looked at.

        Raises:
            NotFound: it is not set, or not to be read.
        """
        variable = self._prefix + name
        value = os.environ.get(variable) if name and _is_open(variable) else None
        if value is None:
            raise NotFound(
                f"secret {name} not found: the runtime has no environment variable {variable} "
                "that it may give away"
            )
        return {name: value}

    async def bulk(self, metadata: Mapping[str, str]) -> Mapping[str, Mapping[str, str]]:
        """Return every variable that may be read; ``metadata`` is not looked at."""
        start = len(self._prefix)
        return {
            variable[start:]: {variable[start:]: value}
            for variable, value in os.environ.items()
            if len(variable) > start and variable.startswith(self._prefix) and _is_open(variable)
        }


def _is_open(variable: str) -> bool:
    folded = variable.upper()
    return folded != "APP_API_TOKEN" and not folded.startswith("DAPR_")


__all__ = ["LocalEnvSecretStore", "Settings"]
