"""A component's settings: a frozen dataclass whose fields are also its documentation.

Metadata in YAML are texts. Each field of the dataclass says what it takes::

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Settings:
        host: str = setting("server and port", name="redisHost", example="localhost:6379")
        tries: int = setting("tries before giving up", default="3", read=whole(1, 100))

Keys match without case. Unknown keys, missing ones and texts that cannot be read are collected,
so that one start shows every mistake.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pillion.errors import Invalid
from pillion.nearest import did_you_mean

T = TypeVar("T")
_KEY = "pillion.setting"


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of a component's metadata.

    Attributes:
        name: as YAML writes it.
        text: what it is, in one phrase.
        default: as it would be written; None when the key must be there.
        read: turns the text into the value; raises ValueError with a phrase such as ``a number``.
        choices: the texts it takes, empty for any.
        secret: True when the value must not be shown.
        example: a text that works.
    """

    name: str
    text: str
    default: str | None
    read: Callable[[str], Any]
    choices: tuple[str, ...]
    secret: bool
    example: str


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong with one key; ``key`` is empty for one that is missing."""

    key: str
    problem: str


def setting(
    text: str,
    *,
    default: str | None = None,
    read: Callable[[str], Any] = str,
    name: str = "",
    choices: tuple[str, ...] = (),
    secret: bool = False,
    example: str = "",
) -> Any:
    """Describe a field; see :class:`Setting`. Without ``name`` it is the field's, in camel case."""
    described = Setting(name, text, default, read, choices, secret, example)
    return dataclasses.field(metadata={_KEY: described}, repr=not secret)


def switch(text: str) -> bool:
    """Read ``true`` or ``false``, as Go does."""
    folded = text.strip().lower()
    if folded in ("true", "t", "1", "yes", "y", "on"):
        return True
    if folded in ("false", "f", "0", "no", "n", "off", ""):
        return False
    raise ValueError("true or false")


def whole(low: int, high: int) -> Callable[[str], int]:
    """Return a reader of whole numbers from ``low`` to ``high``."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return number

    return read


def described(model: type[Any]) -> tuple[Setting, ...]:
    """Return the settings of a model, in the order of its fields."""
    found = []
    for field in dataclasses.fields(model):
        one: Setting = field.metadata[_KEY]
        found.append(one if one.name else dataclasses.replace(one, name=_camel(field.name)))
    return tuple(found)


def parse(model: type[T], metadata: Mapping[str, str]) -> tuple[T | None, list[Mistake]]:
    """Read ``metadata`` into ``model``; the value is None when there are mistakes."""
    settings = described(model)
    by_key = {one.name.casefold(): one for one in settings}
    given: dict[str, str] = {}
    mistakes: list[Mistake] = []
    for key, text in metadata.items():
        folded = key.casefold()
        if folded not in by_key:
            names = [one.name for one in settings]
            mistakes.append(Mistake(key, f"is not a setting{did_you_mean(key, names)}"))
        elif folded in given:
            mistakes.append(Mistake(key, "is there twice"))
        else:
            given[folded] = text
    values: dict[str, Any] = {}
    for field, one in zip(dataclasses.fields(model), settings, strict=True):  # type: ignore[arg-type]
        written = given.get(one.name.casefold())
        taken = one.default if written is None else written
        if taken is None:
            mistakes.append(Mistake("", f"{one.name} is missing: {one.text}"))
            continue
        try:
            values[field.name] = _read(one, taken)
        except ValueError as error:
            shown = "" if one.secret else f", not {taken[:60]!r}"
            mistakes.append(Mistake(one.name, f"must be {error}{shown}"))
    return (None, mistakes) if mistakes else (model(**values), [])


def settings_of(model: type[T], metadata: Mapping[str, str], name: str) -> T:
    """Read ``metadata`` of the component ``name``.

    Raises:
        Invalid: there are mistakes; the message names all of them.
    """
    value, mistakes = parse(model, metadata)
    if value is None:
        every = "; ".join(f"{one.key} {one.problem}".strip() for one in mistakes)
        raise Invalid(f"component {name}: {every}")
    return value


def _read(one: Setting, text: str) -> Any:
    if one.choices and text not in one.choices:
        raise ValueError(f"one of {', '.join(one.choices)}")
    return one.read(text)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
