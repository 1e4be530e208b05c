"""Completion scripts, written from the parsers of all commands."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pillion_cli.commands import load, names, parser_of


@dataclass(frozen=True, slots=True)
class Option:
    """One flag, as a shell needs to know it.

    Attributes:
        names: with their dashes.
        help: one line.
        takes_value: False for switches, which stand alone.
        values: what to offer for its value.
        files: offer file names for its value.
    """

    names: tuple[str, ...]
    help: str
    takes_value: bool
    values: tuple[str, ...]
    files: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """One command.

    Attributes:
        name: the word.
        summary: one line.
        options: its flags.
        words: what to offer for plain words.
        rest: True when a command line of another program follows.
    """

    name: str
    summary: str
    options: tuple[Option, ...]
    words: tuple[str, ...]
    rest: bool


def entries() -> list[Entry]:
    """Return all commands."""
    return [_entry(name) for name in names()]


def script(shell: str) -> str:
    """Return the completion script for ``bash``, ``zsh`` or ``fish``."""
    return _SCRIPTS[shell](entries())


def _entry(name: str) -> Entry:
    command = load(name)
    parser = parser_of(command)
    options: list[Option] = []
    words: tuple[str, ...] = ()
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to list them
        completions = tuple(action.choices or ()) or parser.completions.get(action.dest, ())
        if action.option_strings:
            options.append(_option(action, completions, files=action.dest in parser.completions))
        else:
            words += completions
    return Entry(name, command.SUMMARY, tuple(options), words, bool(parser.rest))


def _option(action: argparse.Action, values: tuple[str, ...], *, files: bool) -> Option:
    text = "" if action.help in (None, argparse.SUPPRESS) else str(action.help)
    return Option(
        names=tuple(action.option_strings),
        help=text.replace("%(default)s", str(action.default)),
        takes_value=action.nargs is None,
        values=values,
        files=files and not values,
    )


def _bash(commands: Sequence[Entry]) -> str:
    blocks = []
    for command in commands:
        flags = " ".join(name for option in command.options for name in option.names)
        cases = [
            f"        {_pattern(command.name, option)}) {_bash_values(option)}; return ;;"
            for option in command.options
            if option.takes_value
        ]
        blocks.append((command.name, flags, " ".join(command.words), cases))
    value_cases = "\n".join(line for _, _, _, cases in blocks for line in cases)
    flag_cases = "\n".join(f"        {name}) flags='{flags}' ;;" for name, flags, _, _ in blocks)
    word_cases = "\n".join(
        f"        {name}) words='{words}' ;;" for name, _, words, _ in blocks if words
    )
    rest = "|".join(command.name for command in commands if command.rest) or "-"
    return _BASH.format(
        names=" ".join(command.name for command in commands),
        values=value_cases,
        flags=flag_cases,
        words=word_cases or "        *) ;;",
        rest=rest,
    )


def _pattern(command: str, option: Option) -> str:
    return "|".join(f"{command}:{name}" for name in option.names)


def _bash_values(option: Option) -> str:
    if option.values:
        return f"COMPREPLY=($(compgen -W '{' '.join(option.values)}' -- \"$current\"))"
    if option.files:
        return 'compopt -o filenames; COMPREPLY=($(compgen -f -- "$current"))'
    return "COMPREPLY=()"


_BASH = """\
# bash completion for pillion; load it with: source <(pillion completion bash)
_pillion() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" previous command flags words index
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -W '{names} --help --version' -- "$current"))
        return
    fi
    command="${{COMP_WORDS[1]}}"
    case "$command" in
    {rest})
        # Behind -- stands the command line of another program.
        for ((index = 2; index < COMP_CWORD; index++)); do
            if [[ "${{COMP_WORDS[index]}}" == -- ]]; then
                compopt -o default
                return
            fi
        done
        ;;
    esac
    previous="${{COMP_WORDS[COMP_CWORD - 1]}}"
    if [[ "$current" == = ]]; then # --flag=
        current=""
    elif [[ "$previous" == = ]]; then # --flag=val
        previous="${{COMP_WORDS[COMP_CWORD - 2]}}"
    fi
    case "$command:$previous" in
{values}
    esac
    case "$command" in
{flags}
        *) return ;;
    esac
    if [[ "$current" == -* ]]; then
        COMPREPLY=($(compgen -W "$flags" -- "$current"))
        return
    fi
    case "$command" in
{words}
    esac
    if [[ -n "$words" ]]; then
        COMPREPLY=($(compgen -W "$words" -- "$current"))
    fi
}}
complete -F _pillion pillion
"""


def _zsh(commands: Sequence[Entry]) -> str:
    listed = "\n".join(
        f"        {_quoted(_colons(command.name) + ':' + command.summary)}" for command in commands
    )
    cases = "\n".join(map(_zsh_case, commands))
    return _ZSH.format(commands=listed, cases=cases)


def _zsh_case(command: Entry) -> str:
    arguments = f"_arguments -s \\\n{_zsh_arguments(command)}"
    return f"        {command.name})\n            {arguments}\n            ;;"


def _zsh_arguments(command: Entry) -> str:
    lines = [
        _quoted(_zsh_option(name, option)) for option in command.options for name in option.names
    ]
    if command.rest:
        lines.append(_quoted("*::command:_normal"))
    elif command.words:
        lines.append(_quoted(f"*:word:({' '.join(command.words)})"))
    return " \\\n".join(f"                {line}" for line in lines)


def _zsh_option(name: str, option: Option) -> str:
    text = option.help.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]")
    spec = f"*{name}{'=' if option.takes_value and name.startswith('--') else ''}"
    if option.takes_value and not name.startswith("--"):
        spec += "+"
    spec += f"[{_colons(text)}]"
    if option.takes_value:
        offered = (
            f"({' '.join(option.values)})" if option.values else "_files" if option.files else " "
        )
        spec += f":value:{offered}"
    return spec


_ZSH = """\
#compdef pillion
# zsh completion for pillion; load it with: source <(pillion completion zsh)
_pillion() {{
    local -a commands
    commands=(
{commands}
    )
    if ((CURRENT == 2)); then
        _describe command commands
        return
    fi
    local command="${{words[2]}}"
    shift words
    ((CURRENT--))
    case "$command" in
{cases}
    esac
}}
compdef _pillion pillion
"""


def _fish(commands: Sequence[Entry]) -> str:
    lines = [
        "# fish completion for pillion; load it with: pillion completion fish | source",
        "complete -c pillion -f",
    ]
    for command in commands:
        lines.append(
            f"complete -c pillion -n __fish_use_subcommand -a {command.name}"
            f" -d {_fish_quoted(command.summary)}"
        )
        seen = f"-n '__fish_seen_subcommand_from {command.name}'"
        lines += [f"complete -c pillion {seen}{_fish_option(each)}" for each in command.options]
        if command.words:
            lines.append(f"complete -c pillion {seen} -a {_fish_quoted(' '.join(command.words))}")
    return "\n".join(lines) + "\n"


def _fish_option(option: Option) -> str:
    parts = [
        f" -l {name[2:]}" if name.startswith("--") else f" -s {name[1:]}" for name in option.names
    ]
    if option.takes_value:
        parts.append(" -r -F" if option.files else " -x")
    if option.values:
        parts.append(f" -a {_fish_quoted(' '.join(option.values))}")
    if option.help:
        parts.append(f" -d {_fish_quoted(option.help)}")
    return "".join(parts)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _colons(text: str) -> str:
    return text.replace(":", "\\:")


_SCRIPTS: Mapping[str, Callable[[Sequence[Entry]], str]] = {
    "bash": _bash,
    "zsh": _zsh,
    "fish": _fish,
}
