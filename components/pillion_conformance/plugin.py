"""The fixtures of the suites, and how a suite meets its components.

A module ``test_<kind>.py`` gets each of its tests once for each component type of the kind that
``pillion.registry`` knows, or for the one that it names as ``COMPONENT``. Tests that need more than
the kind's common promise say so with ``@pytest.mark.promises(...)``, and a twin under
``@pytest.mark.lacks(...)`` tests the refusal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pillion import registry
from pillion.kinds.component import Component, Context


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The event loop of asynchronous tests."""
    return "asyncio"


@dataclass(frozen=True)
class Subject:
    """The component under test.

    Attributes:
        type_name: its type in YAML.
        component: its class.
    """

    type_name: str
    component: type[Component]

    def promises(self, ability: type | str) -> bool:
        """Tell whether it has an ability: a mix-in class, or the name of a class attribute."""
        if isinstance(ability, str):
            return bool(getattr(self.component, ability, False))
        return issubclass(self.component, ability)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "promises(*abilities): run for components that have all these abilities"
    )
    config.addinivalue_line(
        "markers", "lacks(*abilities): run for components that have none of these abilities"
    )
    config.addinivalue_line("markers", "slow: takes more than five seconds")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "subject" not in metafunc.fixturenames:
        return
    kind = Path(metafunc.module.__file__).stem.removeprefix("test_")
    only = getattr(metafunc.module, "COMPONENT", None)
    names = registry.types(kind) if only is None else (only,)
    subjects = [Subject(name, registry.find(name)) for name in names]
    assert subjects, f"there is no component of the kind {kind}"
    needed = [one for mark in metafunc.definition.iter_markers("promises") for one in mark.args]
    absent = [one for mark in metafunc.definition.iter_markers("lacks") for one in mark.args]
    metafunc.parametrize(
        "subject",
        [
            pytest.param(subject, id=subject.type_name)
            for subject in subjects
            if all(map(subject.promises, needed)) and not any(map(subject.promises, absent))
        ],
    )


@pytest.fixture
def component_settings(subject: Subject, request: pytest.FixtureRequest) -> Mapping[str, Any]:
    """The component's example settings, completed by the servers it requires."""
    settings = dict(subject.component.example)
    for server in subject.component.requires:
        settings |= request.getfixturevalue(f"{server}_server")
    return settings


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A fresh ``$PILLION_HOME``, shared by all components that one test opens."""
    return tmp_path / "home"


Opener = Callable[[], AbstractAsyncContextManager[Any]]


@pytest.fixture
def open_component(subject: Subject, component_settings: Mapping[str, Any], home: Path) -> Opener:
    """Open the component once more, with the same home and settings."""

    def opened() -> AbstractAsyncContextManager[Any]:
        return subject.component.open(
            Context(name="subject", home=home, app_id="tester", settings=component_settings)
        )

    return opened


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what each component keeps of its kind's promise: tests down, components across."""
    if not any("conformance" in argument for argument in terminalreporter.config.args):
        return
    for suite, tests in sorted(_matrix(terminalreporter).items()):
        components = sorted({component for row in tests.values() for component in row})
        terminalreporter.section(f"{suite}: + passed, F failed, s skipped, . not promised")
        for number, component in enumerate(components, 1):
            terminalreporter.write_line(f"{number:>3} = {component}")
        width = max(len(test) for test in tests)
        numbers = "".join(f"{number:>3}" for number in range(1, len(components) + 1))
        terminalreporter.write_line(" " * width + numbers)
        for test, row in sorted(tests.items()):
            cells = "".join(f"{row.get(component, '.'):>3}" for component in components)
            terminalreporter.write_line(f"{test:<{width}}{cells}")


def _matrix(reporter: pytest.TerminalReporter) -> dict[str, dict[str, dict[str, str]]]:
    """Return a sign by suite, test and component; the worst one where a test has several."""
    suites: dict[str, dict[str, dict[str, str]]] = {}
    types = sorted(registry.types(), key=len, reverse=True)
    for outcome, sign in (("passed", "+"), ("skipped", "s"), ("failed", "F"), ("error", "E")):
        for report in reporter.getreports(outcome):
            found = _CASE.search(getattr(report, "nodeid", ""))
            if found is None:
                continue
            suite, test, case = found.groups()
            component = next((one for one in types if one in case), None)
            if component is not None:
                row = suites.setdefault(suite, {}).setdefault(test, {})
                row[component] = sign
    return suites


_CASE = re.compile(r"test_(\w+)\.py::test_(\w+)\[(\S+)\]$")
