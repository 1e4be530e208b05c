"""From a component type in YAML to its class."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pillion import registry
from pillion.errors import Invalid
from pillion.kinds.registry import Registry
from pillion_components.registry.in_memory import InMemoryRegistry
from pillion_components.registry.sqlite import SqliteRegistry

Install = Callable[[str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a distribution with one entry point, seen while the test runs."""
    monkeypatch.syspath_prepend(str(tmp_path))
    count = 0

    def installed(type_name: str, value: str) -> None:
        nonlocal count
        count += 1
        folder = tmp_path / f"third{count}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: third{count}\nVersion: 1\n")
        (folder / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{type_name} = {value}\n")
        registry._third_party.cache_clear()

    module = "from pillion_components.registry.in_memory import InMemoryRegistry\n"
    module += "class AcmeRegistry(InMemoryRegistry): pass\nNOT_A_CLASS = 1\n"
    (tmp_path / "acme_third.py").write_text(module)
    (tmp_path / "acme_broken.py").write_text("import no_such_client_library\n")
    yield installed
    monkeypatch.undo()
    registry._third_party.cache_clear()
    sys.modules.pop("acme_third", None)


def test_type_is_the_path_of_its_module() -> None:
    """The first segment is the folder, the rest is the file."""
    assert registry.find("registry.sqlite") is SqliteRegistry
    assert registry.find("registry.in-memory") is InMemoryRegistry


def test_known_lists_the_classes_of_a_kind() -> None:
    """All built-in registries are there, in the order of their types, and nothing else."""
    assert registry.types("registry") == ("registry.in-memory", "registry.sqlite")
    assert registry.known("registry") == (InMemoryRegistry, SqliteRegistry)
    assert all(issubclass(component, Registry) for component in registry.known("registry"))
    assert set(registry.types("registry")) <= set(registry.types())
    assert registry.known("no-such-kind") == ()


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("registry.sqlit", "registry.sqlite"),
        ("registry.SQLite", "registry.sqlite"),
        ("registry.in_memory", "registry.in-memory"),
        ("registry.in.memory", "registry.in-memory"),
        ("regisry.sqlite", "registry.sqlite"),
    ],
)
def test_misspelt_type_gets_the_nearest_name(wrong: str, right: str) -> None:
    """A type is spelt in exactly one way, and a near miss is answered with it."""
    with pytest.raises(Invalid, match=f'unknown component type {wrong}; did you mean "{right}"'):
        registry.find(wrong)


@pytest.mark.parametrize("wrong", ["registry._table", "registry", "", "qqqqqqqq", "registry.."])
def test_nonsense_is_unknown(wrong: str) -> None:
    """Private modules, kinds and empty names are no types."""
    with pytest.raises(Invalid, match="unknown component type"):
        registry.find(wrong)


def test_type_far_from_all_lists_its_kind() -> None:
    """Where no name is near, the choices of the kind are told."""
    with pytest.raises(Invalid, match=r"known are registry\.in-memory, registry\.sqlite"):
        registry.find("registry.zzzzzzzzzzzzzzzzzzzzzzzzzzz")


def test_listing_types_imports_no_component() -> None:
    """Names are known without paying for client libraries."""
    program = (
        "import sys; from pillion import registry; "
        "assert 'registry.sqlite' in registry.types(); "
        "assert 'pillion_components.registry.sqlite' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_third_party_adds_a_type(install: Install) -> None:
    """An entry point makes a class available, listed with the built-in ones."""
    install("registry.acme", "acme_third:AcmeRegistry")
    assert registry.find("registry.acme").__name__ == "AcmeRegistry"
    assert registry.types("registry")[0] == "registry.acme"


def test_third_party_does_not_replace_a_built_in(install: Install) -> None:
    """A built-in type means the same on every machine."""
    install("registry.sqlite", "acme_third:AcmeRegistry")
    assert registry.find("registry.sqlite") is SqliteRegistry


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("acme_broken:Registry", "no_such_client_library"),
        ("acme_third:Missing", "Missing"),
        ("acme_third:NOT_A_CLASS", "not a component class"),
    ],
)
def test_broken_third_party_is_named(install: Install, value: str, message: str) -> None:
    """What cannot be loaded is one clear error with the reason."""
    install("registry.broken", value)
    with pytest.raises(Invalid, match=f"registry.broken.*{message}"):
        registry.find("registry.broken")


def test_two_third_parties_with_one_name_are_refused(install: Install) -> None:
    """Which of two would be taken must not depend on the order of installation."""
    install("registry.acme", "acme_third:AcmeRegistry")
    install("registry.acme", "acme_other:AcmeRegistry")
    with pytest.raises(Invalid, match="uninstall one of them"):
        registry.find("registry.acme")
