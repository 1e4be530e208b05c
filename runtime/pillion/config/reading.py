"""What reading the files found: every problem and every notice, each with its place."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pillion.config.nodes import Node, Path, Table, locate, paths
from pillion.config.source import Mark, SyntaxProblem
from pillion.errors import Failure, Invalid
from pillion.nearest import nearest

SecretReader = Callable[[str, str, str], str]
"""Gives the secret for (store, name, key); raises a Failure when it cannot."""

_MOST_LISTED = 50
"""Problems that one message lists."""

_MOST_KEPT = 500
"""Problems, and notices, that are kept of one load; the rest is only counted."""

_MOST_QUOTED = 60
"""Characters of a wrong value that are quoted back."""


_BREAKING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to tell the person who wrote a file that is otherwise right.

    Attributes:
        where: ``file:line``.
        text: what there is to know.
        warning: True when it probably is not what was meant, or leaves something unguarded.
    """

    where: str
    text: str
    warning: bool = False

    def __str__(self) -> str:
        """Return ``file:line: text``."""
        return f"{self.where}: {self.text}"


class Findings:
    """Problems and notices of one load, over all its files."""

    def __init__(self) -> None:
        self._problems: dict[str, tuple[int, tuple[int, int]]] = {}
        self._notices: dict[Notice, tuple[int, tuple[int, int]]] = {}
        self._files: dict[str, int] = {}
        self._dropped = 0

    @property
    def full(self) -> bool:
        """True when there are so many problems that further ones are only counted."""
        return len(self._problems) >= _MOST_KEPT

    def file(self, name: str) -> None:
        """Give ``name`` its place among the files, before those that come after it."""
        self._files.setdefault(name, len(self._files))

    def problem(self, mark: Mark, text: str) -> None:
        """Note that what stands at ``mark`` is wrong."""
        if self.full:
            self._dropped += 1
        else:
            self._problems[_line(f"{mark}: {text}")] = self._order(mark)

    def broken(self, error: SyntaxProblem) -> None:
        """Note a file that cannot be read."""
        self.problem(error.mark, error.problem)

    def notice(self, mark: Mark, text: str, *, warning: bool = False) -> None:
        """Note something about what stands at ``mark``."""
        where = _line(f"{mark.source.name}:{mark.order[0]}")
        if len(self._notices) < _MOST_KEPT:
            self._notices[Notice(where, _line(text), warning)] = self._order(mark)

    @property
    def notices(self) -> tuple[Notice, ...]:
        """The notices, in the order of files and lines."""
        return tuple(sorted(self._notices, key=self._notices.__getitem__))

    def check(self) -> None:
        """Return when there was no problem.

        Raises:
            Invalid: there was; the message has a line for each.
        """
        lines = sorted(self._problems, key=self._problems.__getitem__)
        more = len(lines) - _MOST_LISTED + self._dropped
        if more > 0:
            lines[_MOST_LISTED:] = [f"... and {more} more"]
        if lines:
            raise Invalid("\n".join(lines), reason="configuration")

    def _order(self, mark: Mark) -> tuple[int, tuple[int, int]]:
        return self._files.setdefault(mark.source.name, len(self._files)), mark.order


class Reading:
    """One document on its way from YAML to a resource.

    Attributes:
        root: the document.
        findings: where problems and notices go.
        environ: the environment that ``envRef`` reads.
        ignore_case: True where ``baseURL`` may stand for ``baseUrl``.
    """

    __slots__ = ("_meant", "_paths", "_secrets", "environ", "findings", "ignore_case", "root")

    def __init__(
        self,
        root: Table,
        findings: Findings,
        environ: Mapping[str, str],
        secrets: SecretReader | None = None,
        *,
        ignore_case: bool = True,
    ) -> None:
        self.root = root
        self.findings = findings
        self.environ = environ
        self.ignore_case = ignore_case
        self._secrets = secrets
        self._meant: set[str] = set()
        self._paths: dict[int, Path] | None = None

    def mark(self, path: Path) -> Mark:
        """Return where the value at ``path`` stands."""
        return locate(self.root, path)[1]

    def missing(self, path: Path) -> None:
        """Note that a field must be there; not where it is there under a misspelt name."""
        if _dotted(path).casefold() not in self._meant:
            self.problem(path, "is missing")

    def problem(self, path: Path, text: str, *, hint: str = "", quote: bool = False) -> None:
        """Note that what stands at ``path`` is wrong.

        Args:
            path: names as the model spells them, and indices.
            text: what is wrong and what is allowed.
            hint: what follows the quoted value.
            quote: quote the value as it stands in the file; never for what may be a secret.
        """
        _, mark, node = locate(self.root, path)
        quoted = _quoted(mark, node) if quote else ""
        self.findings.problem(mark, f"{_dotted(path)}: {text}{quoted}{hint}")

    def notice(self, path: Path, text: str, *, warning: bool = False) -> None:
        """Note something about what stands at ``path``."""
        mark, _, _ = locate(self.root, path)
        self.findings.notice(mark, f"{_dotted(path)} {text}", warning=warning)

    def canonical(
        self,
        table: Table,
        names: Mapping[str, str],
        without_effect: Mapping[str, bool],
    ) -> dict[str, Node]:
        """Return the fields of ``table`` that have a value, by their right names.

        Args:
            table: a mapping of this document.
            names: the right name by folded name.
            without_effect: names that are accepted and not acted on; True for a warning.
        """
        fields: dict[str, Node] = {}
        spelled: dict[str, str] = {}
        for key, value in table.items():
            name = names.get(key.casefold())
            if name is None or (key != name and not self.ignore_case):
                self._unknown(table, key, names)
                continue
            if name in spelled:
                first = f"{spelled[name]} in line {table.keys_at[spelled[name]].order[0]}"
                place = self._place(table, key)
                text = f"{place}: is given twice, first as {first}"
                self.findings.problem(table.keys_at[key], text)
                continue
            spelled[name] = key
            if value is None:
                continue
            fields[name] = value
            if name in without_effect:
                text = f"{self._place(table, key)} is accepted but has no effect yet"
                self.findings.notice(table.keys_at[key], text, warning=without_effect[name])
        return fields

    def secret(self, path: Path, store: str, name: str, key: str) -> str | None:
        """Return a secret, or note at ``path`` why there is none and return None."""
        wanted = f'{self._called()} needs the secret "{name[:60]}"'
        if not store:
            text = f"{wanted}, but auth.secretStore is not set"
        elif self._secrets is None:
            text = f'{wanted} from the secret store "{store[:60]}", and there is no secret store'
        else:
            try:
                return self._secrets(store, name, key)
            except Failure as error:
                text = f"{wanted}: {error.message}"
        self.problem(path, text)
        return None

    def _called(self) -> str:
        kind = locate(self.root, ("kind",))[2]
        name = locate(self.root, ("metadata", "name"))[2]
        return " ".join(f"{part[:60]}" for part in (kind, name) if isinstance(part, str))

    def _unknown(self, table: Table, key: str, names: Mapping[str, str]) -> None:
        if self.findings.full:
            self.findings.problem(table.keys_at[key], "")
            return
        allowed = sorted(names.values(), key=str.casefold)
        meant = nearest(key, allowed)
        if meant is not None:
            self._meant.add(self._place(table, meant).casefold())
        hint = f'; did you mean "{meant}"? Allowed' if meant is not None else "; allowed"
        text = f"unknown field{hint}: {', '.join(allowed)}"
        mark = table.keys_at[key]
        place = self._place(table, mark.source.shown(mark, key))
        self.findings.problem(mark, f"{place}: {text}")

    def _place(self, table: Table, key: str) -> str:
        if self._paths is None:
            self._paths = paths(self.root)
        return _dotted((*self._paths.get(id(table), ()), key))


def _line(text: str) -> str:
    """Return ``text`` on one line; names in a file can hold anything, and logs must not break."""
    return _BREAKING.sub(" ", text)


def _dotted(path: Path) -> str:
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text or "the document"


def _quoted(mark: Mark, node: Node) -> str:
    if not isinstance(node, str):
        return ""
    written = mark.source.written(mark)
    if len(written) > _MOST_QUOTED or "\n" in written:
        return ""
    return f", not {written}" if written[:1] in ("'", '"') else f', not "{written}"'
