"""A component as its YAML declares it: what to open, and with which metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

INIT_TIMEOUT = 5.0
"""Seconds that a component is given to open, where ``initTimeout`` says nothing."""


@dataclass(frozen=True, slots=True)
class SecretReference:
    """A value that stands in a secret store.

    Attributes:
        name: the secret's.
        key: which of its values; the secret's name again where it has one.
    """

    name: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataItem:
    """One entry of ``spec.metadata``.

    Attributes:
        name: the key as written.
        value: its text, templates and all, or where it stands.
        hidden: True for what must not be quoted: it came from the environment.
        mark: ``file:line:column`` of the entry; two entries may differ in it and be equal.
    """

    name: str
    value: str | SecretReference = field(repr=False)
    hidden: bool = False
    mark: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentSpec:
    """One component.

    Attributes:
        name: what apps call it.
        type_name: ``state.sqlite`` and the like; its kind is served and its class is known.
        version: of the implementation.
        metadata: in the order of the file.
        ignore_errors: a failure to open it is logged and does not stop the runtime.
        init_timeout: seconds that it is given to open.
        secret_store: where secret references are looked up; empty where there are none.
        mark: ``file:line:column``; two specs may differ in it and be equal.
    """

    name: str
    type_name: str
    version: str = "v1"
    metadata: tuple[MetadataItem, ...] = ()
    ignore_errors: bool = False
    init_timeout: float = INIT_TIMEOUT
    secret_store: str = ""
    mark: str = field(default="", compare=False)

    @property
    def references(self) -> tuple[SecretReference, ...]:
        """The secrets that it needs."""
        return tuple(
            item.value for item in self.metadata if isinstance(item.value, SecretReference)
        )


def filled(text: str, templates: Mapping[str, str]) -> str:
    """Return ``text`` with ``{uuid}``, ``{podName}``, ``{namespace}`` and ``{appID}`` filled in."""
    if "{" in text:
        for name, value in templates.items():
            text = text.replace("{" + name + "}", value)
    return text
