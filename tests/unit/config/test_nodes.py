"""Scalars, and mappings that know where they were written."""

from __future__ import annotations

import math

import pytest

from pillion.config.nodes import Plain, Table, locate, merged, paths, plain
from pillion.config.source import Source
from pillion.config.yaml_source import documents


def table(text: str, name: str = "f") -> Table:
    (root,) = documents(Source(name, text))
    assert isinstance(root, Table)
    return root


@pytest.mark.parametrize(
    ("text", "flag"),
    [(text, True) for text in ("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "y", "Y")]
    + [(text, False) for text in ("false", "no", "No", "NO", "off", "OFF", "n", "N")]
    + [(text, None) for text in ("1", "0", "t", "tRue", "enabled", "yes!")],
)
def test_flags(text: str, flag: bool | None) -> None:
    """Where a boolean is asked for, the words of Go's YAML readers are booleans."""
    assert Plain(text).flag is flag


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("12", 12),
        ("-12", -12),
        ("+12", 12),
        ("1_000", 1000),
        ("0x1F", 31),
        ("-0o17", -15),
        ("0b101", 5),
        ("1.5", 1.5),
        ("1.", 1.0),
        (".5", 0.5),
        ("-1e3", -1000.0),
        ("1E+3", 1000.0),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("012", None),
        ("0.12", 0.12),
        ("01.5", None),
        ("1__", None),
        ("0x", None),
        ("0x_", None),
        ("1:30", None),
        ("2024-01-02", None),
        ("1.2.3", None),
        (".", None),
        ("e3", None),
        ("9" * 41, None),
        ("\u0661", None),
    ],
)
def test_numbers(text: str, number: float | None) -> None:
    """Numbers are those that every reader of YAML agrees on."""
    assert Plain(text).number == number
    assert Plain(text).free == (text if number is None else number)


def test_free_values() -> None:
    """Where nothing is known, only true, false, null and numbers are more than text."""
    text = "[true, no, ~, 1, 1.5, 012, 2024-01-02, '1', a, {b: .nan}]"
    *values, last = plain(table(f"a: {text}"))["a"]
    assert values == [True, "no", None, 1, 1.5, "012", "2024-01-02", "1", "a"]
    assert math.isnan(last["b"])


def test_places() -> None:
    """Keys and values are found by path, without case, as far as the path leads."""
    root = table("a:\n  Bc: [x, {d: y}]\n")
    assert [str(mark) for mark in locate(root, ("A", "bC", 1, "d"))[:2]] == ["f:2:12", "f:2:15"]
    assert str(locate(root, ("a", "bc", 0))[1]) == "f:2:8"
    assert str(locate(root, ("a", "nothing", "here"))[1]) == "f:2:3"
    assert str(locate(root, ("a", "bc", 7))[1]) == "f:2:7"
    assert str(locate(root, ("z",))[1]) == "f:1:1"


def test_paths_to_mappings() -> None:
    """A mapping is found by what it is, not by what is in it, and first where it was written."""
    root = table("a: [{x: 1}, &a {x: 1}]\nb: {c: *a}\n")
    found = paths(root)
    assert set(found.values()) == {(), ("a", 0), ("a", 1), ("b",)}
    assert found[id(root["b"]["c"])] == ("a", 1)


def test_merging() -> None:
    """Later mappings go over earlier ones field by field, and lists and opaque ones whole."""
    base = table("a: {b: 1, c: {d: 2, e: 3}, l: [1, 2]}\no: {p: 1}\nk: 1\n", "base")
    over = table("a: {c: {e: 4}, l: [3], n: 5}\no: {q: 2}\nk:\nm: ~\n", "over")
    result = merged(base, over, frozenset({("o",)}))
    assert plain(result) == {
        "a": {"b": 1, "c": {"d": 2, "e": 4}, "l": [3], "n": 5},
        "o": {"q": 2},
        "k": 1,
        "m": None,
    }
    assert str(locate(result, ("a", "c", "e"))[1]) == "over:1:12"
    assert str(locate(result, ("a", "c", "d"))[1]) == "base:1:18"
