"""A component's metadata against what its class and its kind read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pillion.errors import Failure
from pillion.kinds.component import Component
from pillion.kinds.index import Kind, NoMetadata
from pillion.kinds.settings import Mistake, Setting, described, parse
from pillion.nearest import did_you_mean


def settings_model(component: type[Component]) -> type[Any]:
    """Return the dataclass that describes a component's own metadata."""
    model: type[Any] = getattr(component, "settings", NoMetadata)
    return model


def mistakes(
    metadata: Mapping[str, str | None],
    kind: Kind,
    component: type[Component],
    hidden: Collection[str] = (),
) -> list[Mistake]:
    """Return all that is wrong with ``metadata``.

    Args:
        metadata: texts by key; None for one whose text is not known yet.
        kind: the component's.
        component: its class.
        hidden: keys whose texts must not be quoted.
    """
    models = (settings_model(component), kind.metadata)
    allowed = {one.name.casefold(): one for model in models for one in described(model)}
    names = [one.name for one in allowed.values()]
    found = [
        Mistake(key, _unknown(key, names)) for key in metadata if key.casefold() not in allowed
    ]
    for model in models:
        found += _of_model(model, metadata)
    return [_told(one, metadata, hidden, allowed) for one in found]


def split(
    metadata: Mapping[str, str], kind: Kind, component: type[Component]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return what is the component's own, and what the runtime reads by its documented names."""
    own = {one.name.casefold() for one in described(settings_model(component))}
    shared = {one.name.casefold(): one.name for one in described(kind.metadata)}
    return (
        {
            key: text
            for key, text in metadata.items()
            if key.casefold() in own or key.casefold() not in shared
        },
        {
            shared[key.casefold()]: text
            for key, text in metadata.items()
            if key.casefold() in shared
        },
    )


def _of_model(model: type[Any], metadata: Mapping[str, str | None]) -> list[Mistake]:
    settings = {one.name.casefold(): one for one in described(model)}
    texts: dict[str, str] = {}
    pending = []
    for key, text in metadata.items():
        one = settings.get(key.casefold())
        if one is not None and text is None:
            pending.append(one)
        elif one is not None and text is not None:
            texts[key] = text
    try:
        _, found = parse(model, texts)
    except (Failure, ValueError) as error:
        # The fields are right one by one and do not go together.
        return [] if pending else [Mistake("", str(error))]
    return [one for one in found if not _awaited(one, pending)]


def _awaited(mistake: Mistake, pending: list[Setting]) -> bool:
    return not mistake.key and any(
        mistake.problem.startswith(f"{one.name} is missing") for one in pending
    )


def _told(
    mistake: Mistake,
    metadata: Mapping[str, str | None],
    hidden: Collection[str],
    allowed: Mapping[str, Setting],
) -> Mistake:
    """Return the mistake with a hint where there is one, and without what must not be shown."""
    folded = mistake.key.casefold()
    text = next((text for key, text in metadata.items() if key.casefold() == folded), None)
    if text is None:
        return mistake
    if folded in {key.casefold() for key in hidden}:
        return Mistake(mistake.key, mistake.problem.removesuffix(f", not {text[:60]!r}"))
    one = allowed.get(folded)
    hint = did_you_mean(text, one.choices) if one is not None and one.choices else ""
    return Mistake(mistake.key, mistake.problem + hint)


def _unknown(key: str, names: list[str]) -> str:
    if not names:
        return "is not a setting; there are none"
    return f"is not a setting{did_you_mean(key, names)}; allowed are {', '.join(names)}"
