"""Whatever the bytes, loading ends with resources or with Invalid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pillion.config.load import load_resources
from pillion.errors import Invalid

CASES = sorted((Path(__file__).parents[2] / "cases" / "config").glob("*.yaml"))
TEXTS = [path.read_bytes() for path in CASES]
LINE = re.compile(r".+:\d+:\d+: .+|\.\.\. and \d+ more")
PIECES = [b"", b"\n", b" ", b"\t", b"- ", b": ", b"{", b"}", b"[", b"]", b"'", b'"', b"&a ", b"*a"]
PIECES += [b"<<: ", b"!!int ", b"!!python/name:a ", b"? ", b"|\n", b"> ", b"---\n", b"...\n", b"#"]
PIECES += [b"~", b"null", b"$A", b"${", b"%YAML 1.2\n", b"\xff", b"\x00", b"\xed\xa0\x80", b"0x1"]
PIECES += [b"'\\ud800'", b'"\\ud800"', b'"\\0"', b"\xe2\x80\xa8", b"9" * 50, b"kind", b"spec: "]


def check(data: bytes, folder: Path) -> None:
    """Load ``data`` as a resource and as a Configuration file."""
    path = folder / "a.yaml"
    path.write_bytes(data)
    for paths, config_files in (([folder], []), ([], [path])):
        message = ""
        try:
            load_resources(
                paths,
                app_id="orders",
                namespace="default",
                environ={"A": "a\nb: 'c", "NAMESPACE": "default"},
                config_files=config_files,
                secrets=lambda store, name, key: f"{store}{name}{key}",
            )
        except Invalid as error:
            message = error.message
        assert all(LINE.fullmatch(line) for line in message.split("\n") if message), message


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Draw one of the golden files with a few changes."""
    data = draw(st.sampled_from(TEXTS))
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from([0, 0, 1, 2, 10])))
        data = data[:start] + draw(st.sampled_from(PIECES)) + data[end:]
    return data


@st.composite
def shaped(draw: st.DrawFn) -> bytes:
    """Draw a document with right names and values of any shape."""
    scalars = st.sampled_from(
        ["a", "yes", "1", "1.5", "~", "'b'", "http://a", "5s", "''", "[]", "{}"]
    )
    values = st.recursive(
        scalars,
        lambda inner: (
            st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
            | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4).map(
                lambda pairs: f"{{{', '.join(f'{key}: {value}' for key, value in pairs.items())}}}"
            )
        ),
        max_leaves=15,
    )
    spec, auth = draw(values), draw(values)
    return (
        f"apiVersion: dapr.io/v1alpha1\nkind: HTTPEndpoint\nmetadata: {draw(values)}\n"
        f"spec: {spec}\nauth: {auth}\nscopes: {draw(values)}\n"
    ).encode()


NAMES = sorted(
    {match for text in TEXTS for match in re.findall(r"([A-Za-z]+):", text.decode())} | {"BASEURL"}
)


@settings(
    max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(data=st.one_of(st.binary(max_size=200), mutated(), mutated(), shaped()))
@pytest.mark.parametrize("parser", ["libyaml", "python"])
def test_any_bytes(
    parser: str, data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random bytes, damaged files and odd shapes raise nothing but Invalid, with places."""
    with monkeypatch.context() as patch:
        if parser == "python":
            patch.delattr(yaml, "CBaseLoader", raising=False)
        check(data, tmp_path)
