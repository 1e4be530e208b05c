"""Completion scripts."""

import subprocess

import pytest

from pillion_cli.commands import names
from pillion_cli.shells import entries, script


def complete(*words):
    """Return what bash offers for the last of ``words``."""
    # Readline makes '=' a word of its own.
    split = [part for word in words for part in _parts(word)]
    program = f"""
set -eu
{script("bash")}
COMP_WORDS=({" ".join(map(_quoted, split))})
COMP_CWORD={len(split) - 1}
compopt() {{ :; }}
_pillion
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["bash", "-c", program], capture_output=True, text=True, timeout=10, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def _parts(word):
    name, equals, value = word.partition("=")
    return [name, equals, *([value] if value else [])] if equals else [word]


def _quoted(word):
    return f"'{word}'"


def test_bash_takes_the_script():
    """bash -n finds nothing wrong with it."""
    done = subprocess.run(
        ["bash", "-n"],
        input=script("bash"),
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("pillion", "ver"), ["version"]),
        (("pillion", "s"), ["sidecar", "stop"]),
        (("pillion", "version", "--out"), ["--output"]),
        (("pillion", "version", "--output", ""), ["text", "json"]),
        (("pillion", "version", "-o", "j"), ["json"]),
        (("pillion", "version", "--output="), ["text", "json"]),
        (("pillion", "version", "--output=j"), ["json"]),
        (("pillion", "completion", ""), ["bash", "zsh", "fish"]),
        (("pillion", "completion", "z"), ["zsh"]),
        (("pillion", "run", "--load-balancer", "r"), ["round-robin", "random"]),
        (("pillion", "sidecar", "--lab"), ["--label"]),
        (("pillion", "sidecar", "--app-port", ""), []),
        (("pillion", "run", "--app-id", "x", "--", "--app-"), []),
        (("pillion", "nothing", "--"), []),
    ],
)
def test_bash_completes(words, offered):
    """Commands, flags, values of flags and words, and nothing of ours behind '--'."""
    assert complete(*words) == offered


def test_bash_completes_file_names(tmp_path, monkeypatch):
    """Where a flag wants a file, the files are offered."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").touch()
    assert complete("pillion", "run", "--config", "conf") == ["config.yaml"]
    assert complete("pillion", "stop", "-f", "conf") == ["config.yaml"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_and_flag_is_in_every_script(shell):
    """They are generated from the parsers, so none is forgotten."""
    text = script(shell)
    for entry in entries():
        assert entry.name in text
        for option in entry.options:
            for name in option.names:
                shown = name.lstrip("-") if shell == "fish" else name
                assert shown in text
    assert [entry.name for entry in entries()] == names()
