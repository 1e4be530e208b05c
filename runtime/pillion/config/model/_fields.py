"""The types that the fields of our models have: what may be written, and what it becomes.

Each takes a node of ``config/nodes.py``. Their errors say what is allowed and never quote the
value; ``config/reading.py`` does, from the file.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from pillion.config.nodes import Items, Node, Plain, Table, plain
from pillion.config.values import duration
from pillion.errors import Invalid
from pillion.nearest import did_you_mean

PROBLEM = "pillion"
"""The type of the errors that are raised here."""


class NoEffectYet:
    """Marks a field that is accepted and not acted on.

    Args:
        warning: True where people rely on it for protection.
    """

    __slots__ = ("warning",)

    def __init__(self, *, warning: bool = False) -> None:
        self.warning = warning


NO_EFFECT = NoEffectYet()
UNGUARDED = NoEffectYet(warning=True)


def refuse(problem: str, *, hint: str = "", quote: bool = True) -> NoReturn:
    """Raise the error that becomes ``file:line:column: path: problem, not "value"hint``."""
    context = {"problem": problem, "hint": hint, "quote": quote}
    raise PydanticCustomError(PROBLEM, "{problem}", context)


def _scalar(value: Node, what: str) -> str:
    if isinstance(value, str):
        return value
    refuse(f"must be {what}, not {_called(value)}", quote=False)


def _called(value: Node) -> str:
    if isinstance(value, Table):
        return "a mapping"
    return "a list" if isinstance(value, Items) else "null"


def _text(value: Node) -> str:
    return str(_scalar(value, "text"))


def _name(value: Node) -> str:
    return _text(value) or refuse("must not be empty")


def _json(value: Node) -> str:
    if isinstance(value, Table | Items):
        return json.dumps(plain(value), separators=(",", ":"), ensure_ascii=False)
    return _text(value)


def _flag(value: Node) -> bool:
    text = _scalar(value, "true or false")
    flag = text.flag if isinstance(text, Plain) else None
    return flag if flag is not None else refuse("must be true or false, without quotes")


def _whole(value: Node) -> int:
    text = _scalar(value, "a whole number")
    number = text.integer if isinstance(text, Plain) else None
    if number is None or number < 0:
        refuse("must be a whole number of zero or more, without quotes")
    return number


def _free(value: Node) -> Any:
    return plain(value)


def choice(*options: str, ignore_case: bool = False, empty: bool = False) -> BeforeValidator:
    """Return what takes one of ``options``, or with ``empty`` an empty text."""
    expected = f"{', '.join(options[:-1])} or {options[-1]}"

    def check(value: Node) -> str:
        text = str(_scalar(value, expected))
        if text in options or (empty and not text):
            return text
        if ignore_case and text.casefold() in options:
            return text.casefold()
        refuse(f"must be {expected}", hint=did_you_mean(text, options))

    return BeforeValidator(check)


def seconds(*, unit: float | None = None) -> BeforeValidator:
    """Return what takes a duration; a bare integer counts ``unit`` seconds."""
    return converted("a duration such as 30s", lambda text: duration(text, unit=unit))


def converted(what: str, convert: Callable[[str], Any]) -> BeforeValidator:
    """Return what takes a scalar and makes it what ``convert`` returns.

    ``convert`` says what is wrong by ``refuse`` or by raising Invalid.
    """

    def check(value: Node) -> Any:
        try:
            return convert(str(_scalar(value, what)))
        except Invalid as error:
            refuse(error.message)

    return BeforeValidator(check)


Text = Annotated[str, BeforeValidator(_text)]
"""Any scalar, as it is written."""

Name = Annotated[str, BeforeValidator(_name)]
"""Any scalar but an empty one, as it is written."""

JsonText = Annotated[str, BeforeValidator(_json)]
"""Any scalar as it is written; a mapping or list as JSON."""

Flag = Annotated[bool, BeforeValidator(_flag)]
Whole = Annotated[int, BeforeValidator(_whole)]
Seconds = Annotated[float, seconds()]

Free = Annotated[Any, BeforeValidator(_free)]
"""Whatever is written, as dicts, lists and scalars."""
