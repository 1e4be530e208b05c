"""The command lines of the measurements."""

from __future__ import annotations

import contextlib
import cProfile
import json
import pstats
from pathlib import Path

import pytest
from tests.bench import __main__ as bench
from tests.bench import invocation, profiling
from tests.bench.errors import BenchError
from tests.bench.load import Case
from tests.bench.systems import App, cheapest_app, check


def test_default_loads() -> None:
    """POST is measured at 1, 16 and 64 connections, GET and a paced POST at 16."""
    args = invocation._arguments([])
    assert invocation.cases(args) == [
        *(Case("POST", 1), Case("POST", 16), Case("POST", 64)),
        *(Case("GET", 16), Case("POST", 16, 1000.0)),
    ]


def test_chosen_loads() -> None:
    """The loads can be cut down."""
    args = invocation._arguments(["--connections", "8", "--no-get", "--rate", "0"])
    assert invocation.cases(args) == [Case("POST", 8)]


@pytest.mark.parametrize(
    "argv",
    [
        *(["--seconds", "0"], ["--seconds", "1e9"], ["--repeats", "0"], ["--connections", "1,x"]),
        *(["--systems", "app,apache"], ["--generator", "ab"], ["--unknown"]),
    ],
    ids=" ".join,
)
def test_bad_arguments(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong value is one line and status 2, before anything is started."""
    with pytest.raises(SystemExit, match="2"):
        invocation.main(argv)
    assert "error:" in capsys.readouterr().err


def test_unknown_measurement(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown name is refused with the names that exist."""
    assert bench.main(["throughput"]) == 2
    error = capsys.readouterr().err
    assert "unknown measurement 'throughput'" in error
    assert "streaming" in error


def test_help_lists_everything(capsys: pytest.CaptureFixture[str]) -> None:
    """Every measurement and tool is in the help."""
    assert bench.main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name in (*bench.MEASUREMENTS, *bench.TOOLS):
        assert f"  {name}" in shown


def test_profile_entries() -> None:
    """Functions come with their calls, the dearest first, and are shown per request."""
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(10):
        json.loads('{"a": [1, 2, 3]}')
    profile.disable()
    found = profiling.entries(pstats.Stats(profile))
    own = [entry[2] for entry in found]
    assert own == sorted(own, reverse=True)
    calls = {name: count for name, count, _, _ in found}
    assert next(count for name, count in calls.items() if name.endswith(" loads")) == 10
    text = profiling.render(found, requests=5, top=50)
    assert next(line for line in text.splitlines() if " loads " in line).split("|")[2].strip() == (
        "2.00"
    )


def test_without_nginx_the_rest_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing peer is named with what to install, and the Python app takes nginx's place."""
    monkeypatch.setattr("tests.bench.nginx.SEARCH_PATH", "")
    with contextlib.ExitStack() as stack:
        app = stack.enter_context(cheapest_app(tmp_path))
        systems, notes = invocation._start(("app", "nginx"), tmp_path, app, stack)
        assert app.program == "uvloop and httptools"
        assert [system.name for system in systems] == ["app"]
        check(systems[0])
    assert len(notes) == 1
    assert "`nginx` was not measured" in notes[0]
    assert "apt install nginx" in notes[0]


def test_nothing_left_to_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run without any system is an error and not an empty table."""
    monkeypatch.setattr("tests.bench.nginx.SEARCH_PATH", "")
    app = App(1, "none", ())
    with contextlib.ExitStack() as stack, pytest.raises(BenchError, match="nothing is left"):
        invocation._start(("nginx",), tmp_path, app, stack)
