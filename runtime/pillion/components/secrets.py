"""The metadata of a component with its secrets looked up."""

from __future__ import annotations

from collections.abc import Mapping

from pillion.config.component import ComponentSpec, MetadataItem, SecretReference
from pillion.config.metadata import mistakes
from pillion.errors import Failure, Invalid
from pillion.kinds.component import Component
from pillion.kinds.index import Kind
from pillion.kinds.secretstores import SecretStore


class Secrets:
    """Looks up each secret of one store once.

    Args:
        name: the store's.
        store: what is asked.
    """

    def __init__(self, name: str, store: SecretStore) -> None:
        self._name = name
        self._store = store
        self._known: dict[str, Mapping[str, str]] = {}

    async def get(self, reference: SecretReference) -> str:
        """Return the value.

        Raises:
            Failure: there is none, or the store cannot be read.
        """
        values = self._known.get(reference.name)
        if values is None:
            values = self._known[reference.name] = await self._store.get(reference.name, {})
        if reference.key in values:
            return values[reference.key]
        raise Invalid(
            f'the secret "{reference.name[:60]}" of {self._name} has no key "{reference.key[:60]}"'
        )


async def resolved(spec: ComponentSpec, secrets: Secrets | None) -> dict[str, str]:
    """Return the metadata of ``spec`` as texts; templates are not filled in.

    Raises:
        Invalid: a secret is not there; the message has a line for each.
        Unavailable: the store cannot be read.
    """
    texts: dict[str, str] = {}
    lines: list[str] = []
    for item in spec.metadata:
        if isinstance(item.value, str):
            texts[item.name] = item.value
            continue
        if secrets is None:
            raise Invalid(f"{item.mark}: {item.name[:60]} needs a secret, and there is no store")
        try:
            texts[item.name] = await secrets.get(item.value)
        except Failure as failure:
            if failure.retryable:
                raise
            lines.append(f"{item.mark}: {item.name[:60]} needs a secret: {failure.message}")
    if lines:
        raise Invalid("\n".join(lines), reason="configuration")
    return texts


def check(
    spec: ComponentSpec, texts: Mapping[str, str], kind: Kind, component: type[Component]
) -> None:
    """Return when metadata that were not known when the files were read are right too.

    Raises:
        Invalid: they are not; the message has a line for each, and quotes no secret.
    """
    hidden = {item.name for item in spec.metadata if _is_hidden(item)}
    marks = {item.name.casefold(): item.mark for item in spec.metadata}
    lines = []
    for mistake in mistakes(texts, kind, component, hidden):
        mark = marks.get(mistake.key.casefold(), spec.mark)
        place = f"{mark}: " if mark else ""
        lines.append(f"{place}{f'{mistake.key[:60]} {mistake.problem}'.strip()}")
    if lines:
        raise Invalid("\n".join(lines), reason="configuration")


def _is_hidden(item: MetadataItem) -> bool:
    return item.hidden or isinstance(item.value, SecretReference)
