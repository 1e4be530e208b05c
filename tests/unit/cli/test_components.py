"""``pillion components``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from tests.support import probes

from pillion import registry
from pillion.config.load import load_resources
from pillion.kinds.index import KINDS
from pillion_cli import component_types
from pillion_cli.main import main

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "components.md"
BUILT_IN = [name for kind in KINDS for name in registry.types(kind)]


@pytest.fixture
def _probes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        probes.install(tmp_path / "site", patch)
        yield
    registry._third_party.cache_clear()


def test_the_table_has_every_type(capsys: pytest.CaptureFixture[str]) -> None:
    """Each type is a line, with what it can do and what it must be told."""
    assert main(["components"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert set(BUILT_IN) <= set(lines)
    assert "Expiring, Transactional, Listable, Watchable, Queryable" in lines["state.sqlite"]
    assert lines["state.redis"].split()[-1] == "redisHost"
    assert not any(name.startswith("registry.") for name in lines)


@pytest.mark.usefixtures("_probes")
def test_json_says_everything(capsys: pytest.CaptureFixture[str]) -> None:
    """Programs are given every key with its default, choices and help."""
    assert main(["components", "-o", "json"]) == 0
    rows = {row["type"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == {*BUILT_IN, *probes.TYPES}
    row = rows["state.probe.transactional"]
    assert (row["kind"], row["module"]) == ("state", "tests.support.probes")
    assert row["abilities"] == ["Transactional"]
    assert row["capabilities"] == ["ETAG", "TRANSACTIONAL", "ACTOR"]
    keys = {key["name"]: key for key in row["metadata"]}
    assert keys["host"] == {
        "name": "host",
        "description": "server and port",
        "required": True,
        "default": None,
        "choices": [],
        "secret": False,
        "example": "localhost:1",
    }
    assert keys["mode"]["choices"] == ["fast", "safe"]
    assert keys["password"]["secret"] is True
    assert {"keyPrefix", "actorStateStore"} <= {key["name"] for key in row["runtimeMetadata"]}


@pytest.mark.usefixtures("_probes")
def test_detail(capsys: pytest.CaptureFixture[str]) -> None:
    """One type is shown with its keys, those of the runtime, and an example that loads."""
    assert main(["components", "state.probe"]) == 0
    text = capsys.readouterr().out
    assert "  mode\n      how it works (one of fast, safe; default fast)\n" in text
    assert "  host\n      server and port (must be there)\n" in text
    assert "  keyPrefix\n" in text


@pytest.mark.parametrize("name", BUILT_IN)
def test_examples_load(name: str, tmp_path: Path) -> None:
    """The example of each built-in type is a resource without a mistake, once values are filled."""
    text = component_types.example(component_types.one_type(name))
    if '"..."' in text:
        pytest.fail(f"{name} has a key that must be there and has no example:\n{text}")
    (tmp_path / "c.yaml").write_text(text)
    found = load_resources([tmp_path], app_id="a", namespace="default", environ={}).found
    assert len(found) == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["state.sqlit"], 'there is no component type state.sqlit; did you mean "state.sqlite"?'),
        (["state.sqlite", "x"], "unexpected argument 'x'"),
        (["-d", "x"], "--directory is for pillion components new"),
        (["new"], "new takes a kind and a name"),
        (["new", "stat", "acme"], "there is no kind 'stat'; did you mean \"state\"?"),
        (["new", "state", "Acme Store"], "'Acme Store' is no name"),
        (["new", "state", "redis"], "the component type state.redis is there already"),
    ],
)
def test_mistakes(args: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong command line is one line that says what would be right."""
    assert main(["components", *args]) == 2
    assert capsys.readouterr().err.startswith(f"pillion components: {message}")


def test_a_type_that_cannot_be_imported_is_listed_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A broken third party does not hide the others."""
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\nlock.broken = no_such_module:X\n")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        registry._third_party.cache_clear()
        assert main(["components"]) == 0
    registry._third_party.cache_clear()
    [line] = [one for one in capsys.readouterr().out.splitlines() if "lock.broken" in one]
    assert "cannot be used here" in line
    assert "no_such_module" in line


@pytest.mark.parametrize("kind", list(KINDS))
def test_new_writes_a_component_class(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The package has a class of the kind behind an entry point, and is never written over."""
    folder = tmp_path / "package"
    assert main(["components", "new", kind, "acme.two", "-d", str(folder)]) == 0
    assert f"pip install -e {folder}" in capsys.readouterr().out
    project = (folder / "pyproject.toml").read_text()
    module = f"pillion_{kind}_acme_two"
    assert f'"{kind}.acme.two" = "{module}:AcmeTwo' in project
    monkeypatch.syspath_prepend(str(folder))
    try:
        classes = vars(import_module(module)).values()
    finally:
        sys.modules.pop(module, None)
    promise = KINDS[kind].promise
    assert [one for one in classes if isinstance(one, type) and issubclass(one, promise)]
    for path in folder.rglob("*"):
        if "__pycache__" in path.parts:
            continue
        assert path.is_dir() or "$" not in path.read_text(), f"{path} has an unfilled place"
    assert main(["components", "new", kind, "acme.two", "-d", str(folder)]) == 2


def test_the_reference_is_current() -> None:
    """``just docs`` would change nothing."""
    text = component_types.markdown(component_types.all_types())
    assert REFERENCE.read_text(encoding="utf-8") == text, "run: just docs"
