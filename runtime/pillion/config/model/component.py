"""``kind: Component``: a backend of a building block."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar

from pydantic import Field

from pillion import registry
from pillion.config.component import (
    INIT_TIMEOUT,
    ComponentSpec,
    MetadataItem,
    SecretReference,
)
from pillion.config.metadata import mistakes
from pillion.config.model._base import Model, Scoped
from pillion.config.model._fields import Flag, Name, converted, refuse
from pillion.config.model._references import Auth, NamedValue, resolve
from pillion.config.nodes import Path
from pillion.config.reading import Reading
from pillion.config.values import duration
from pillion.errors import Failure
from pillion.kinds import index
from pillion.kinds.component import Component
from pillion.kinds.index import Kind
from pillion.nearest import did_you_mean

_NAME = re.compile(r"[^\s/\x00-\x1f\x7f]+")
_VERSION = re.compile(r"v[0-9]+[a-z0-9.-]*")
_METADATA = ("spec", "metadata")


def _version(text: str) -> str:
    if text and not _VERSION.fullmatch(text):
        refuse("must be a version such as v1")
    return text or "v1"


def _init_timeout(text: str) -> float:
    return (duration(text) if text else 0.0) or INIT_TIMEOUT


class Spec(Model):
    """What to open, and how."""

    type: Name
    version: Annotated[str, converted("a version such as v1", _version)] = "v1"
    ignore_errors: Flag = False
    init_timeout: Annotated[float, converted("a duration such as 30s", _init_timeout)] = (
        INIT_TIMEOUT
    )
    metadata: tuple[NamedValue, ...] = ()


class ComponentResource(Scoped):
    """A document of this kind."""

    KIND: ClassVar[str] = "Component"
    API_VERSIONS: ClassVar[tuple[str, ...]] = ("dapr.io/v1alpha1",)

    spec: Spec
    auth: Auth = Field(default_factory=Auth.model_construct)

    def build(self, reading: Reading) -> ComponentSpec | None:
        """Return the component, its references to secrets unresolved."""
        name = self.metadata.name or ""
        if not _NAME.fullmatch(name):
            problem = "must not have slashes, spaces or control characters: it is part of a URL"
            reading.problem(("metadata", "name"), problem)
        kind, component = self._class(reading)
        items = self._items(reading)
        if kind is None or component is None:
            return None
        self._check(items, kind, component, reading)
        return ComponentSpec(
            name=name,
            type_name=self.spec.type,
            version=self.spec.version,
            metadata=tuple(items),
            ignore_errors=self.spec.ignore_errors,
            init_timeout=self.spec.init_timeout,
            secret_store=self.auth.secret_store,
            mark=str(reading.mark(("metadata", "name"))),
        )

    def _class(self, reading: Reading) -> tuple[Kind | None, type[Component] | None]:
        """Return kind and class of the type, or note why there is none."""
        type_name, path = self.spec.type, ("spec", "type")
        first = type_name.partition(".")[0]
        if first in index.NOT_YET:
            text = f"{type_name[:60]}: the component is skipped: {first} is not supported yet"
            reading.notice(path, text, warning=True)
            return None, None
        kind = index.kind_of(type_name)
        if kind is None:
            hint = did_you_mean(first, index.KINDS)
            text = f"must begin with {', '.join(index.KINDS)}, then a dot and a name"
            reading.problem(path, text, hint=hint, quote=True)
            return None, None
        if type_name not in registry.types(kind.name):
            known = registry.types(kind.name)
            hint = f"{did_you_mean(type_name, known)}; known are {', '.join(known)}"
            reading.problem(path, "must be a known type", hint=hint, quote=True)
            return kind, None
        try:
            component = registry.find(type_name)
        except Failure as failure:
            reading.problem(path, failure.message)
            return kind, None
        if not issubclass(component, kind.promise):
            text = f"{type_name} is not a {kind.promise.__name__}; its package is wrong"
            reading.problem(path, text)
            return kind, None
        return kind, component

    def _items(self, reading: Reading) -> list[MetadataItem]:
        """Return the entries that can be used; what is wrong with the others is noted."""
        seen: dict[str, int] = {}
        items: list[MetadataItem] = []
        for at, entry in enumerate(self.spec.metadata):
            path = (*_METADATA, at)
            first = seen.setdefault(entry.name.casefold(), at)
            if first == at:
                items.append(self._item(entry, path, reading))
                continue
            line = reading.mark((*_METADATA, first)).order[0]
            text = f"{entry.name[:60]} is there twice, first in line {line}"
            reading.problem((*path, "name"), text)
        return items

    def _item(self, entry: NamedValue, path: Path, reading: Reading) -> MetadataItem:
        value: str | SecretReference | None
        reference = entry.secret_key_ref
        if reference is not None:
            value = SecretReference(reference.name, reference.key or reference.name)
            if not self.auth.secret_store:
                text = f'needs the secret "{reference.name[:60]}", but auth.secretStore is not set'
                reading.problem((*path, "secretKeyRef"), text)
        else:
            value = resolve(entry, path, reading, "")
            if value is None:
                # The problem is noted; a reference stands for any text there could be.
                value = SecretReference("", "")
            elif "{podName}" in value and not reading.environ.get("POD_NAME"):
                reading.problem(path, "has {podName}, but the variable POD_NAME is not set")
        return MetadataItem(
            name=entry.name,
            value=value,
            hidden=entry.env_ref is not None,
            mark=str(reading.mark((*path, "name"))),
        )

    def _check(
        self,
        items: list[MetadataItem],
        kind: Kind,
        component: type[Component],
        reading: Reading,
    ) -> None:
        """Note what the models of ``component`` and ``kind`` say against ``items``."""
        texts = {item.name: item.value if isinstance(item.value, str) else None for item in items}
        hidden = [item.name for item in items if item.hidden]
        names = [entry.name.casefold() for entry in self.spec.metadata]
        for mistake in mistakes(texts, kind, component, hidden):
            if mistake.key:
                at = names.index(mistake.key.casefold())
                text = f"{mistake.key[:60]} {mistake.problem}"
                reading.problem((*_METADATA, at, "name"), text)
            else:
                reading.problem(_METADATA, f"{self.spec.type}: {mistake.problem}")


KINDS = (ComponentResource,)
