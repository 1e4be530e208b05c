"""The commands: found by listing, light to start, helpful."""

import re
import subprocess
import sys

import pytest

from pillion import __version__, sidecar
from pillion.errors import Invalid, Unavailable
from pillion.home import RunFile
from pillion_cli import instances
from pillion_cli.commands import list as list_command
from pillion_cli.commands import load, names, parser_of, stop
from pillion_cli.main import main


def python(*args, **more):
    return subprocess.run(
        [sys.executable, *args], capture_output=True, text=True, timeout=30, check=False, **more
    )


def modules_after(*args):
    """Return what a run of pillion imported."""
    done = python("-X", "importtime", "-m", "pillion_cli", *args)
    assert done.returncode == 0, done.stderr
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}


def test_the_commands_of_the_package_are_found():
    """One module, one command; nothing has to be registered."""
    assert set(names()) >= {
        *("run", "sidecar", "list", "stop", "invoke", "version", "completion"),
    }
    for name in names():
        assert name == load(name).NAME


@pytest.mark.parametrize("name", names())
def test_help_teaches(name, capsys):
    """Every command says what it is for and shows examples."""
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    text = capsys.readouterr().out
    assert caught.value.code == 0
    assert f"pillion {name}" in text
    assert "examples:\n" in text


@pytest.mark.parametrize("name", names())
def test_no_two_flags_share_a_name(name):
    """A letter means one thing within a command, and building the parser proves it."""
    assert parser_of(load(name)).prog == f"pillion {name}"


def test_the_overview_lists_all_commands(capsys):
    """Without a command there is help, and 'help COMMAND' is the command's."""
    assert main([]) == 0
    text = capsys.readouterr().out
    assert all(re.search(rf"^  {name} +\S", text, re.MULTILINE) for name in names())
    with pytest.raises(SystemExit):
        main(["help", "stop"])
    assert "pillion stop" in capsys.readouterr().out


def test_an_unknown_command_is_one_line(capsys):
    """With the nearest one, and status 2."""
    assert main(["rum"]) == 2
    assert capsys.readouterr().err == "pillion: there is no command 'rum'; did you mean \"run\"?\n"
    assert main(["--nothing"]) == 2
    assert main(["a.b"]) == 2


def test_version(capsys):
    """Three ways to ask."""
    assert main(["--version"]) == 0
    assert main(["version"]) == 0
    assert main(["version", "-o", "json"]) == 0
    assert capsys.readouterr().out.count(__version__) == 3


def test_the_version_needs_next_to_nothing():
    """pillion --version imports neither argparse nor any command."""
    assert modules_after("--version").isdisjoint({"argparse", "pillion_cli.commands", "asyncio"})


def test_a_sidecar_imports_only_what_it_needs():
    """Finding the command and reading its flags loads no loop, no YAML, no supervisor."""
    loaded = modules_after("sidecar", "--version")
    assert "pillion.flags" in loaded
    assert loaded.isdisjoint({"asyncio", "yaml", "http.client", "ctypes", "pydantic", "json"})
    assert not any(name.startswith("pillion_cli.supervise") for name in loaded)


def test_the_runtime_alone_is_the_same_program():
    """python -m pillion takes the same flags, without any of the command line's modules."""
    done = python("-X", "importtime", "-m", "pillion", "--version")
    assert done.stdout == f"{__version__}\n"
    assert "pillion_cli" not in done.stderr
    assert python("-m", "pillion", "sidecar", "--version").stdout == f"{__version__}\n"
    done = python("-m", "pillion", "--app-idd", "x")
    assert done.returncode == 2
    assert done.stderr == 'pillion: unknown flag --app-idd; did you mean "--app-id"?\n'


def test_a_reader_that_goes_away_is_no_crash():
    """pillion ... | head ends without a traceback."""
    done = subprocess.run(
        f"{sys.executable} -m pillion_cli completion bash | head -1",
        shell=True,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert "Traceback" not in done.stderr


def test_one_failure_out_of_the_groups_of_the_runtime_is_one_line():
    """Task groups wrap what goes wrong; a group with anything else in it stays what it is."""
    failure = Unavailable("the port is in use")
    wrapped = ExceptionGroup("outer", [ExceptionGroup("inner", [failure])])
    assert sidecar._only_failure(wrapped) is failure
    assert sidecar._only_failure(ExceptionGroup("mixed", [failure, ValueError()])) is None


def running(app_id, pid, cli_pid=0, template=""):
    return RunFile(
        app_id=app_id,
        instance_id=f"{app_id}-{pid}",
        pid=pid,
        started=f"mark-{pid}",
        http_port=3500,
        cli_pid=cli_pid,
        cli_started=f"mark-{cli_pid}" if cli_pid else "",
        run_template=template,
        created=1.0,
        command="python app.py",
    )


def test_list_shows_columns_and_hides_what_is_not_there():
    """Zero is blank, a long command is cut, a command cannot move the cursor."""
    row = list_command._row(running("orders", 77), 100.0)
    text = list_command.table([row, {**row, "command": "x" * 100, "appId": "a\x1b[2J"}])
    heading, first, second = text.splitlines()
    assert heading.split("  ")[0] == "APP ID"
    assert first.split()[:4] == ["orders", "3500", "python", "app.py"]
    assert "1m39s" in first
    assert "\x1b" not in second
    assert "x…" in second


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.9, "59s"), (60, "1m"), (3661, "1h1m"), (90061, "1d1h"), (-5, "0s")],
)
def test_age_in_two_units(seconds, text):
    """The two largest units say enough."""
    assert list_command.age(seconds) == text


def test_stop_ends_the_pillion_run_or_only_the_runtime():
    """Several apps of one pillion run: one of them is stopped by its runtime, all by the run."""
    alone, first, second = running("a", 1), running("b", 2, cli_pid=9), running("c", 3, cli_pid=9)
    known = [alone, first, second]
    assert [target[0] for target in stop._targets([alone], known)] == [1]
    assert [target[0] for target in stop._targets([first], known)] == [2]
    assert [target[0] for target in stop._targets([first, second], known)] == [9, 9]
    assert [target[0] for target in stop._targets(known, known)] == [1, 9, 9]


def test_an_app_is_looked_up_by_name():
    """All of its instances, or a message with the nearest name."""
    known = [running("orders", 1), running("orders", 2), running("stock", 3)]
    assert instances.named("orders", known) == known[:2]
    with pytest.raises(
        Exception, match=r"no app 'order' is running here; did you mean \"orders\"\?"
    ):
        instances.named("order", known)


@pytest.mark.parametrize(
    "line",
    ["stop", "stop a --all", "stop a -f x", "stop --all -f x", "invoke -a x", "invoke -m x"],
)
def test_incomplete_command_lines_are_refused(line, capsys, monkeypatch, tmp_path):
    """Status 2 and one line."""
    monkeypatch.setenv("PILLION_HOME", str(tmp_path / "home"))
    assert main(line.split()) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "line",
    [
        "invoke -a x -m y -d 1 -D f",
        "invoke -a x -m y -H nothing",
        "invoke -a x -m y -v G=T",
        "invoke -a x -m y",
        "stop x",
        "run -k -- x",
        "run -f . -- x",
        "run -f . --app-id x",
        "run -f /nowhere",
        "completion tcsh",
    ],
)
def test_bad_command_lines_are_one_line(line, capsys, monkeypatch, tmp_path):
    """Not zero, and one line."""
    monkeypatch.setenv("PILLION_HOME", str(tmp_path / "home"))
    assert main(line.split()) in (1, 2)
    assert capsys.readouterr().err.count("\n") == 1


def test_load_refuses_what_is_no_command():
    """Neither a path nor the package itself."""
    for name in ("", "-", "__init__", "../run", "commands.run"):
        with pytest.raises(Invalid):
            load(name)
