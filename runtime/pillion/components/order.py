"""In which order components are opened: whoever keeps a secret comes before whoever needs it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pillion.config.component import ComponentSpec
from pillion.errors import Invalid
from pillion.kinds.index import KINDS, kind_of
from pillion.nearest import did_you_mean

_SECRETS = "secretstores"


def defaults(specs: Iterable[ComponentSpec]) -> dict[str, ComponentSpec]:
    """Return the embedded component of each kind that none of ``specs`` is of, by kind."""
    declared = {_kind(spec) for spec in specs}
    return {
        name: ComponentSpec(name=kind.default_name, type_name=kind.default_type)
        for name, kind in KINDS.items()
        if name not in declared
    }


def waves(specs: Sequence[ComponentSpec]) -> list[list[ComponentSpec]]:
    """Return ``specs`` in groups, each of which needs secrets of earlier groups only.

    The embedded secret store is among them where a secret of it is needed.

    Raises:
        Invalid: a secret store is not there, or secret stores need each other in a circle; the
            message has a line for each.
    """
    embedded = defaults(specs).get(_SECRETS)
    if embedded is not None and any(_store(spec) == embedded.name for spec in specs):
        specs = [embedded, *specs]
    stores = {spec.name for spec in specs if _kind(spec) == _SECRETS}
    lines = [
        f"{spec.mark}: {spec.name[:60]} needs secrets from the secret store "
        f'"{_store(spec)[:60]}", which is not there{did_you_mean(_store(spec), stores)}'
        for spec in specs
        if _store(spec) and _store(spec) not in stores
    ]
    if lines:
        raise Invalid("\n".join(lines), reason="configuration")
    groups: list[list[ComponentSpec]] = []
    waiting, done = list(specs), {""}
    while waiting:
        # Whoever needs no secret still comes after the secret stores of its group.
        ready = [spec for spec in waiting if _store(spec) in done]
        first = [spec for spec in ready if _kind(spec) == _SECRETS]
        group = first or ready
        if not group:
            raise Invalid(_circle(waiting), reason="configuration")
        groups.append(group)
        done.update(spec.name for spec in group)
        waiting = [spec for spec in waiting if spec not in group]
    return groups


def _circle(waiting: Sequence[ComponentSpec]) -> str:
    stores = [spec for spec in waiting if _kind(spec) == _SECRETS]
    names = ", ".join(spec.name[:60] for spec in stores)
    return f"{stores[0].mark}: secret stores wait for secrets of one another: {names}"


def _kind(spec: ComponentSpec) -> str:
    kind = kind_of(spec.type_name)
    return kind.name if kind is not None else ""


def _store(spec: ComponentSpec) -> str:
    return spec.secret_store if spec.references else ""
