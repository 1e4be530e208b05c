"""The golden files of ``tests/cases/config``: adding a case is adding a file.

A case is one YAML file. Comments at its top say how it is read::

    # config                    as a Configuration file; otherwise as a file in a resources folder
    # app: checkout             the app id; ``orders`` unless said
    # namespace: prod           the namespace; ``default`` unless said
    # env: NAME=value           a variable of the environment
    # secret: store/name/key=value

and the comments at its end that start with ``#>`` say what comes of it: the problems, or the
resources and notices.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from pillion.config.load import Resources, load_resources
from pillion.errors import Invalid, NotFound

CASES = Path(__file__).parents[2] / "cases" / "config"


@pytest.mark.parametrize("path", sorted(CASES.glob("*.yaml")), ids=lambda path: path.stem)
def test_case(path: Path, tmp_path: Path) -> None:
    """What a file is read as is what its last comments say."""
    lines = path.read_text(encoding="utf-8").splitlines()
    expected = [line[3:] for line in lines if line.startswith("#> ")]
    assert expected, "a case ends in comments that start with #> and say what is expected"
    assert outcome(path, lines, tmp_path) == expected


def outcome(path: Path, lines: list[str], folder: Path) -> list[str]:
    """Return the lines that a case's last comments are compared with."""
    copy = folder / path.name
    copy.write_bytes(path.read_bytes())
    said = [line[2:].partition(":") for line in lines if line.startswith("# ")]
    as_config = any(line == "# config" for line in lines)
    try:
        resources = load_resources(
            [] if as_config else [folder],
            app_id=_last(said, "app", "orders"),
            namespace=_last(said, "namespace", "default"),
            environ=dict(_pairs(said, "env")),
            config_files=[copy] if as_config else [],
            secrets=_secrets(said),
        )
    except Invalid as error:
        return [line.replace(f"{folder}/", "") for line in error.message.splitlines()]
    return [line.replace(f"{folder}/", "") for line in _dump(resources)]


def _last(said: list[tuple[str, str, str]], name: str, default: str) -> str:
    return ([text.strip() for key, _, text in said if key == name] or [default])[-1]


def _pairs(said: list[tuple[str, str, str]], name: str) -> list[tuple[str, str]]:
    texts = [text.strip() for key, _, text in said if key == name]
    pairs = [text.partition("=") for text in texts]
    return [(key, value.encode().decode("unicode_escape")) for key, _, value in pairs]


def _secrets(said):
    known = dict(_pairs(said, "secret"))
    if not known:
        return None

    def look_up(store: str, name: str, key: str) -> str:
        if f"{store}/{name}/{key}" not in known:
            raise NotFound(f"the store {store} has no {name}")
        return known[f"{store}/{name}/{key}"]

    return look_up


def _dump(resources: Resources) -> list[str]:
    lines = [f"{type(found).__name__} {_fields(found)}" for found in resources.found]
    lines.append(f"Configuration {_fields(resources.configuration)}".rstrip())
    levels = {True: "warning", False: "notice"}
    return lines + [f"{levels[notice.warning]} {notice}" for notice in resources.notices]


def _fields(value: object) -> str:
    """Write what differs from the defaults, secrets too."""
    shown = []
    for field in dataclasses.fields(value):
        content = getattr(value, field.name)
        if content == field.default:
            continue
        text = repr(sorted(content) if isinstance(content, frozenset) else content)
        if dataclasses.is_dataclass(content):
            text = f"({_fields(content)})"
        elif isinstance(content, tuple) and any(map(dataclasses.is_dataclass, content)):
            text = f"[{', '.join(f'({_fields(one)})' for one in content)}]"
        shown.append(f"{field.name}={text}")
    return " ".join(shown)
