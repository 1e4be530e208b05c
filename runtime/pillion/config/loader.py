"""What reads the files; see ``load.py`` for what comes of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pillion.config.configuration import Configuration, names_otlp_endpoint
from pillion.config.nodes import Items, Node, Table, merged
from pillion.config.reading import Findings, Notice, Reading, SecretReader
from pillion.config.source import Mark, Source, SyntaxProblem

if TYPE_CHECKING:
    from pillion.config.model._base import Resource

MAX_FILES = 4096
"""Files that are read in one load."""

_OPAQUE = frozenset({("spec", "nameResolution", "configuration")})
"""What a later Configuration file replaces whole: settings of one component, not of another."""

_OURS = ("dapr.io",)
"""API groups whose every document is meant for a runtime."""


def _files(paths: Iterable[Path], findings: Findings) -> Iterator[Path]:
    seen: set[Path] = set()
    for folder in paths:
        try:
            entries = sorted(folder.iterdir(), key=lambda path: path.name)
        except OSError as error:
            problem = f"is no folder of resources: {error.strerror or error}"
            findings.problem(Source(str(folder), "").mark(0), problem)
            continue
        for path in entries:
            if path.suffix.lower() not in (".yaml", ".yml") or not path.is_file():
                continue
            real = path.resolve()
            if real not in seen and len(seen) == MAX_FILES:
                findings.problem(
                    Source(str(path), "").mark(0), f"is file {MAX_FILES + 1}: too many"
                )
                return
            if real not in seen:
                seen.add(real)
                yield path


class Loader:
    """One load, for one app; the arguments are those of ``load_resources``."""

    def __init__(
        self,
        app_id: str,
        namespace: str,
        environ: Mapping[str, str],
        secrets: SecretReader | None,
    ) -> None:
        self._found: list[object] = []
        self._findings = Findings()
        self._app_id = app_id
        self._namespace = namespace if environ.get("NAMESPACE") else ""
        self._environ = environ
        self._secrets = secrets
        self._names: dict[tuple[str, str], Mark] = {}

    def read(self, folders: Sequence[Path]) -> tuple[object, ...]:
        """Return the resources in ``folders``."""
        for path in _files(folders, self._findings):
            for root in _documents(path, self._findings):
                if isinstance(root, Table):
                    self._document(root)
        return tuple(self._found)

    def configure(self, paths: Sequence[Path]) -> Configuration:
        """Return the Configuration files at ``paths``, merged."""
        built: Configuration | None = None
        whole = _merged_configuration(paths, self._findings, self._environ)
        if whole is not None:
            from pillion.config.model.configuration import ConfigurationResource

            reading = Reading(
                whole, self._findings, self._environ, self._secrets, ignore_case=False
            )
            resource = ConfigurationResource.read(reading)
            built = resource.build(reading) if resource is not None else None
        return built or Configuration(otlp_endpoint=names_otlp_endpoint(self._environ))

    def check(self) -> tuple[Notice, ...]:
        """Return the notices of all that was read.

        Raises:
            Invalid: there were problems; the message has a line for each.
        """
        self._findings.check()
        return self._findings.notices

    def _document(self, root: Table) -> None:
        model = self._model(root)
        if model is None or not self._is_for_us(root):
            return
        reading = Reading(
            root, self._findings, self._environ, self._secrets, ignore_case=model.IGNORE_CASE
        )
        resource = model.read(reading)
        if resource is None:
            return
        name = resource.metadata.name or ""
        if model.UNIQUE:
            self._claim(model.KIND, name, reading)
        built = resource.build(reading)
        if built is not None:
            self._found.append(built)

    def _model(self, root: Table) -> type[Resource] | None:
        from pillion.config import catalog  # its models are pydantic's

        kind, version = _field(root, "kind"), _field(root, "apiVersion")
        if not isinstance(kind, str):
            if _field(root, "apiVersion") is not None or _field(root, "spec") is not None:
                self._skipped(root, "it has no kind")
            return None
        api_version = version if isinstance(version, str) else ""
        model = catalog.find(kind, api_version)
        if model is None:
            meant = catalog.near_miss(kind, api_version)
            shown = f"kind {kind[:60]} of apiVersion {api_version[:60] or '(none)'}"
            if meant is not None:
                self._skipped(root, f"{shown} is not known; did you mean {meant}?")
            elif api_version.partition("/")[0] in _OURS:
                self._skipped(root, f"{shown} is not supported yet")
        elif model.BY_FLAG:
            self._skipped(root, f"kind {kind} is read only from {model.BY_FLAG}")
            return None
        return model

    def _skipped(self, root: Table, why: str) -> None:
        key = root.spelling("kind")
        mark = root.keys_at[key] if key is not None else root.mark
        self._findings.notice(mark, f"the document is skipped: {why}", warning=True)

    def _is_for_us(self, root: Table) -> bool:
        scopes = _field(root, "scopes")
        if isinstance(scopes, Items) and not self._is_listed(scopes):
            return False
        metadata = _field(root, "metadata")
        namespace = _field(metadata, "namespace") if isinstance(metadata, Table) else None
        if self._namespace and isinstance(namespace, str) and namespace:
            return namespace == self._namespace
        return True

    def _is_listed(self, scopes: Items) -> bool:
        # A list that holds anything but text is for the model to complain about.
        return (
            self._app_id in scopes
            or not all(isinstance(scope, str) for scope in scopes)
            or not scopes
        )

    def _claim(self, kind: str, name: str, reading: Reading) -> None:
        mark = reading.mark(("metadata", "name"))
        first = self._names.setdefault((kind, name), mark)
        if first is not mark:
            text = f'metadata.name: {kind} "{name[:60]}" is there already, at {first}'
            self._findings.problem(mark, text)


def _merged_configuration(
    paths: Sequence[Path], findings: Findings, environ: Mapping[str, str]
) -> Table | None:
    whole: Table | None = None
    for path in paths:
        root = _first_document(path, findings, environ)
        if root is None or not _is_configuration(root, findings):
            continue
        whole = root if whole is None else merged(whole, root, _OPAQUE)
    return whole


def _first_document(path: Path, findings: Findings, environ: Mapping[str, str]) -> Table | None:
    roots = [root for root in _documents(path, findings, environ) if root is not None]
    if not roots:
        return None
    first, *others = roots
    for other in others:
        mark = other.mark if isinstance(other, Table | Items) else None
        if mark is not None:
            text = "the document is skipped: only the first one of a Configuration file is read"
            findings.notice(mark, text, warning=True)
    if isinstance(first, Table):
        return first
    findings.problem(Source(str(path), "").mark(0), "must be a mapping with a spec")
    return None


def _is_configuration(root: Table, findings: Findings) -> bool:
    kind = root.get("kind")
    if kind is None or kind == "Configuration":
        return True
    mark = root.values_at["kind"]
    shown = mark.source.shown(mark, kind) if isinstance(kind, str) else "something else"
    findings.problem(mark, f"kind: must be Configuration, not {shown}")
    return False


def _documents(
    path: Path, findings: Findings, environ: Mapping[str, str] | None = None
) -> Iterator[Node]:
    """Yield the documents of ``path`` up to the first that cannot be read."""
    from pillion.config.yaml_source import documents

    findings.file(str(path))
    try:
        source = Source.read(path, environ)
        for mark, name in source.unset:
            findings.notice(mark, f"${name} is not set, so it is empty here", warning=True)
        yield from documents(source)
    except SyntaxProblem as error:
        findings.broken(error)


def _field(table: Table, name: str) -> Node:
    key = table.spelling(name)
    return table[key] if key is not None else None
