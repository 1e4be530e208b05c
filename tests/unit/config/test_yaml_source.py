"""YAML to nodes, with both of PyYAML's parsers."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pillion.config.nodes import Items, Node, Table, plain
from pillion.config.source import Source, SyntaxProblem
from pillion.config.yaml_source import MAX_DEPTH, MAX_NODES, documents


@pytest.fixture(params=["libyaml", "python"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let a test run with each parser; the second is there where libyaml is not."""
    if request.param == "python":
        monkeypatch.delattr(yaml, "CBaseLoader")
    elif not hasattr(yaml, "CBaseLoader"):
        pytest.skip("PyYAML was built without libyaml")
    return request.param


def read(text: str) -> list[Node]:
    return list(documents(Source("f", text)))


CHARACTERS = st.characters(
    codec="utf-8", exclude_categories=["Cc"], exclude_characters="\u2028\u2029\ufeff\ufffe\uffff"
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(CHARACTERS, max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text("abc<=", max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(JSON)
def test_json_is_yaml(parser: str, value: object) -> None:
    """JSON, which is YAML, is read as what it is."""
    (root,) = read(json.dumps(value, ensure_ascii=False))
    assert plain(root) == value


def test_documents(parser: str) -> None:
    """Documents come one by one, empty ones as None."""
    assert [plain(root) for root in read("a: 1\n---\n---\n# nothing\n--- x\n...\n")] == [
        {"a": 1},
        None,
        None,
        "x",
    ]
    assert read("") == []
    assert read("# nothing\n") == []


def test_positions(parser: str) -> None:
    """Keys and values know their lines and columns, beyond ASCII too."""
    (root,) = read("é: '☃' \nb:\n- x\n- é: y\n")
    assert isinstance(root, Table)
    assert str(root.values_at["é"]) == "f:1:4"
    items = root["b"]
    assert isinstance(items, Items)
    assert [str(mark) for mark in items.values_at] == ["f:3:3", "f:4:3"]
    assert str(items[1].values_at["é"]) == "f:4:6"
    assert Source("f", "é: '☃' \n").written(root.values_at["é"]) == "'☃'"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("!!str 12", "12"),
        ('!!int "12"', 12),
        ("!!float 1", 1),
        ("!!bool 'true'", True),
        ("!!null ''", None),
        ("! 12", "12"),
        ("!!timestamp 2024-01-02", "2024-01-02"),
        ("!!map {a: !!seq [b]}", {"a": ["b"]}),
    ],
)
def test_core_tags(parser: str, text: str, value: object) -> None:
    """The tags of YAML's core say how a scalar is read."""
    (root,) = read(text)
    assert plain(root) == value


@pytest.mark.parametrize(
    "tag", ["!!python/name:os.system", "!!python/object:a.B", "!!set", "!!binary", "!Sub", "!<x:y>"]
)
def test_other_tags(parser: str, tag: str) -> None:
    """No other tag is taken, on a scalar or on a mapping."""
    for value in ("x", "{a: b}"):
        with pytest.raises(SyntaxProblem, match="is not allowed; remove it"):
            read(f"a: {tag} {value}")


def test_merge_keys(parser: str) -> None:
    """What a mapping says itself goes over what it merges; of those, earlier ones do."""
    text = "- &a {x: 1, y: 1}\n- &b {x: 2, z: 2}\n- {<<: [*a, *b], y: 3}\n- {'<<': text}\n"
    (root,) = read(text)
    assert plain(root)[2:] == [{"x": 1, "y": 3, "z": 2}, {"<<": "text"}]


def test_merged_keys_remember_where_they_stand(parser: str) -> None:
    """A merged field is placed where it was written."""
    (root,) = read("a: &a {x: 1}\nb: {<<: *a}\n")
    assert isinstance(root, Table)
    assert isinstance(root["b"], Table)
    assert str(root["b"].values_at["x"]) == "f:1:11"


def test_aliases_as_keys(parser: str) -> None:
    """An alias of text can be a key, and of anything else cannot."""
    assert plain(read("&k a: 1\nb: {*k : 2}\n")[0]) == {"a": 1, "b": {"a": 2}}
    with pytest.raises(SyntaxProblem, match="a key must be text"):
        read("a: &k [1]\nb: {*k : 2}\n")


def test_anchors_end_with_their_document(parser: str) -> None:
    """An alias repeats nothing of an earlier document."""
    with pytest.raises(SyntaxProblem, match="repeats nothing"):
        read("a: &a 1\n---\nb: *a\n")


def test_depth(parser: str) -> None:
    """Nesting is bounded, written out or by aliases, and the bound itself is allowed."""
    assert read("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    for text in ("[" * (MAX_DEPTH + 1), "[" * 500_000, "{a: " * 100_000):
        with pytest.raises(SyntaxProblem, match=f"nested more than {MAX_DEPTH} deep"):
            read(text)
    chain = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 2000))
    with pytest.raises(SyntaxProblem, match=f"f:{MAX_DEPTH}:.*nested more than {MAX_DEPTH} deep"):
        read(chain)


def test_size(parser: str) -> None:
    """The number of values is bounded, over all documents of a file."""
    assert read("[" + "a," * (MAX_NODES // 10) + "]")
    with pytest.raises(SyntaxProblem, match=f"more than {MAX_NODES} values"):
        read("\n---\n".join(["[" + "a," * 5000 + "]"] * (MAX_NODES // 5000 + 1)))


def test_merging_is_counted(parser: str) -> None:
    """Fields that a merge repeats count as written out."""
    wide = "&a {" + ", ".join(f"k{i}: 1" for i in range(1000)) + "}"
    with pytest.raises(SyntaxProblem, match="aliases counted in full"):
        read(f"- {wide}\n" + "- {<<: *a}\n" * 200)


@pytest.mark.parametrize(
    "text",
    [
        "a: b: c",
        "a: [",
        '"\\q"',
        "\t- a",
        "&a &b c",
        "%YAML 9.9\n--- a",
        '"\\UFFFFFFFF"',
        "a: @b",
        "? a\n? b\n: c\n- d",
        "--- >x\n a",
        "!<%> a",
        "*",
        "& a",
        "a: 'b",
        "}",
        "a: |\n\tb",
        '"\\ud800"',
    ],
)
def test_syntax_errors(parser: str, text: str) -> None:
    """Broken YAML is one problem with a place."""
    with pytest.raises(SyntaxProblem) as caught:
        read(text)
    assert caught.value.message.startswith(f"{caught.value.mark}: ")


def test_documents_before_the_error_are_there(parser: str) -> None:
    """What stands before the first error in a file is read."""
    found = documents(Source("f", "a: 1\n---\nb: [\n"))
    assert plain(next(found)) == {"a": 1}
    with pytest.raises(SyntaxProblem):
        next(found)
