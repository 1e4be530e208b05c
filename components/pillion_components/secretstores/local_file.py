"""``secretstores.local.file``: secrets from a JSON file.

Objects and lists in it are flattened: ``{"redis": {"password": "x"}}`` is the secret
``redis:password``. With ``multiValued`` the first level are the secrets, and what is below are
their values: ``redis`` with ``password``. Numbers and switches are texts as they are written, and
null is no secret. A file that has changed is read again at the next use.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, TypeAlias

from pillion.errors import NotFound, Unavailable
from pillion.kinds.component import Context
from pillion.kinds.secretstores import MultiValued
from pillion.kinds.settings import setting, settings_of, switch

LARGEST = 16 * 1024 * 1024
"""Bytes of a secrets file."""

Secrets: TypeAlias = Mapping[str, Mapping[str, str]]
_Stamp: TypeAlias = tuple[int, int, int]


def _path(text: str) -> str:
    if not text.strip():
        raise ValueError("the path of a file")
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What ``secretstores.local.file`` can be told."""

    secrets_file: str = setting(
        "the JSON file; a relative path starts where the runtime was started",
        read=_path,
        example="./secrets.json",
    )
    nested_separator: str = setting(
        "what joins the names of nested objects",
        default=":",
        read=lambda text: text or ":",
        example=".",
    )
    multi_valued: bool = setting(
        "let a secret of the first level have several values", default="false", read=switch
    )


class LocalFileSecretStore(MultiValued):
    """Secrets of one JSON file."""

    settings: ClassVar[type] = Settings
    requires: ClassVar[tuple[str, ...]] = ("secret_file",)

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._path = Path(settings.secrets_file).absolute()
        self._name = name
        self._secrets: Secrets = {}
        self._stamp: _Stamp | None = None
        self._reading = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def open(cls, context: Context) -> AsyncIterator[Self]:
        """Read the file.

        Raises:
            Invalid: a setting is wrong.
            Unavailable: the file cannot be read or is damaged.
        """
        self = cls(settings_of(Settings, context.settings, context.name), context.name)
        await self._present()
        yield self

    async def ping(self) -> None:
        """Return when the file can be read.

        Raises:
            Unavailable: it cannot.
        """
        await self._present()

    async def get(self, name: str, metadata: Mapping[str, str]) -> Mapping[str, str]:
        """Return a secret; ``metadata`` is not looked at.

        Raises:
            NotFound: there is no such secret.
            Unavailable: the file cannot be read or is damaged.
        """
        secrets = await self._present()
        if name not in secrets:
            raise NotFound(f"secret {name} not found in {self._path}")
        return secrets[name]

    async def bulk(self, metadata: Mapping[str, str]) -> Secrets:
        """Return every secret; ``metadata`` is not looked at.

        Raises:
            Unavailable: the file cannot be read or is damaged.
        """
        return await self._present()

    async def _present(self) -> Secrets:
        """Return the secrets of the file as it is now."""
        try:
            if _stamp_of(self._path.stat()) == self._stamp:
                return self._secrets
            async with self._reading:
                if _stamp_of(self._path.stat()) != self._stamp:
                    self._stamp, self._secrets = await asyncio.to_thread(self._read)
        except OSError as error:
            raise self._unreadable(error.strerror or str(error)) from None
        return self._secrets

    def _read(self) -> tuple[_Stamp, Secrets]:
        with self._path.open("rb") as file:
            stamp = _stamp_of(os.fstat(file.fileno()))
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise self._unreadable(f"it is larger than {LARGEST} bytes")
        try:
            return stamp, _secrets_of(_content(data), self._settings)
        except json.JSONDecodeError as error:  # its text has the place and no content
            why = f"line {error.lineno} column {error.colno}: {error.msg}"
            raise self._unreadable(f"it is not JSON: {why}") from None
        except UnicodeDecodeError:
            raise self._unreadable("it is not JSON in UTF-8") from None
        except RecursionError:
            raise self._unreadable("it is nested too deeply") from None
        except ValueError as error:
            raise self._unreadable(str(error)) from None

    def _unreadable(self, why: str) -> Unavailable:
        return Unavailable(
            f"component {self._name}: the secrets file {self._path} cannot be used: {why}",
            reason="secrets-file",
        )


def _stamp_of(status: os.stat_result) -> _Stamp:
    return status.st_mtime_ns, status.st_size, status.st_ino


def _content(data: bytes) -> dict[str, Any]:
    content = json.loads(
        data.decode("utf-8-sig"),
        object_pairs_hook=_object,
        parse_int=str,
        parse_float=str,
        parse_constant=_no_number,
    )
    if isinstance(content, dict):
        return content
    raise ValueError("it is not an object")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f'it has the name "{name[:60]}" twice in one object')
        found[name] = value
    return found


def _no_number(text: str) -> str:
    raise ValueError(f"{text} is no number in JSON")


def _secrets_of(content: Mapping[str, Any], settings: Settings) -> Secrets:
    separator = settings.nested_separator
    if settings.multi_valued:
        return {
            name: _distinct(_flat(value, "" if isinstance(value, dict) else name, separator))
            for name, value in content.items()
            if value is not None
        }
    flat = _distinct(_flat(content, "", separator))
    return {name: {name: text} for name, text in flat.items()}


def _flat(value: Any, path: str, separator: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict | list):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        for name, one in inner:
            yield from _flat(one, f"{path}{separator}{name}" if path else str(name), separator)
    elif isinstance(value, bool):
        yield path, "true" if value else "false"
    elif value is not None:
        yield path, value


def _distinct(pairs: Iterator[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, text in pairs:
        if name in found:
            raise ValueError(f'two of its values are the secret "{name[:60]}"')
        found[name] = text
    return found


__all__ = ["LARGEST", "LocalFileSecretStore", "Settings"]
