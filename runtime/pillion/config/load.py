"""Files and folders of YAML, to resources.

Every mistake in every file is found before anything is started, and named in one message. What
Dapr ignores in silence (unknown fields, documents that do not parse) is a mistake here. What is
not for this app, by ``scopes`` or ``metadata.namespace``, is left unread, so that nobody is
stopped by a mistake in a resource of somebody else.

A runtime with no YAML to read imports neither PyYAML nor pydantic.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pillion.config.configuration import Configuration, names_otlp_endpoint
from pillion.config.nodes import Items, Node, Table, merged
from pillion.config.reading import Findings, Notice, Reading, SecretReader
from pillion.config.source import Mark, Source, SyntaxProblem

if TYPE_CHECKING:
    from pillion.config.model._base import Resource

T = TypeVar("T")

MAX_FILES = 4096
"""Files that are read in one load."""

_OURS = ("dapr.io",)
"""API groups whose every document is meant for a runtime."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What was loaded.

    Attributes:
        configuration: all Configuration files, merged; the defaults without any.
        notices: what to tell the person who wrote the files.
        found: every resource, in the order of paths, file names and documents.
    """

    configuration: Configuration = field(default_factory=Configuration)
    notices: tuple[Notice, ...] = ()
    found: tuple[object, ...] = ()

    def of(self, kind: type[T]) -> tuple[T, ...]:
        """Return the resources of one kind, such as ``of(HTTPEndpoint)``."""
        return tuple(resource for resource in self.found if isinstance(resource, kind))


def load_resources(
    paths: Iterable[Path],
    *,
    app_id: str,
    namespace: str,
    environ: Mapping[str, str],
    config_files: Iterable[Path] = (),
    secrets: SecretReader | None = None,
) -> Resources:
    """Read all resources that are meant for one app.

    Args:
        paths: folders; every ``*.yaml`` and ``*.yml`` directly in each is read, sorted by name.
        app_id: resources with ``scopes`` are loaded when it is among them.
        namespace: where ``NAMESPACE`` is set, resources of other namespaces are left out.
        environ: for ``envRef``, ``NAMESPACE``, and ``$NAME`` in Configuration files.
        config_files: Configuration files; fields of later ones replace those of earlier ones.
        secrets: looks up ``secretKeyRef``; None where there is no secret store.

    Raises:
        Invalid: something is wrong; the message has a line ``file:line:column: what`` for each.
    """
    findings = Findings()
    loader = _Loader(findings, app_id, namespace, environ, secrets)
    for path in _files(paths, findings):
        loader.read(path)
    configuration = _configuration(list(config_files), findings, environ, secrets)
    findings.check()
    return Resources(configuration, findings.notices, tuple(loader.found))


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


class _Loader:
    """Takes the resources out of files, one after the other."""

    def __init__(
        self,
        findings: Findings,
        app_id: str,
        namespace: str,
        environ: Mapping[str, str],
        secrets: SecretReader | None,
    ) -> None:
        self.found: list[object] = []
        self._findings = findings
        self._app_id = app_id
        self._namespace = namespace if environ.get("NAMESPACE") else ""
        self._environ = environ
        self._secrets = secrets
        self._names: dict[tuple[str, str], Mark] = {}

    def read(self, path: Path) -> None:
        """Take every document of ``path``."""
        for root in _documents(path, self._findings):
            if isinstance(root, Table):
                self._document(root)

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
            self.found.append(built)

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


def _configuration(
    paths: list[Path],
    findings: Findings,
    environ: Mapping[str, str],
    secrets: SecretReader | None,
) -> Configuration:
    if not paths:
        return Configuration(otlp_endpoint=names_otlp_endpoint(environ))
    from pillion.config.model.configuration import ConfigurationResource

    whole: Table | None = None
    for path in paths:
        root = _first_document(path, findings, environ)
        if root is None or not _is_configuration(root, findings):
            continue
        whole = root if whole is None else merged(whole, root, ConfigurationResource.OPAQUE)
    built: Configuration | None = None
    if whole is not None:
        reading = Reading(whole, findings, environ, secrets, ignore_case=False)
        resource = ConfigurationResource.read(reading)
        built = resource.build(reading) if resource is not None else None
    return built or Configuration(otlp_endpoint=names_otlp_endpoint(environ))


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
    shown = kind[:60] if isinstance(kind, str) else "something else"
    findings.problem(root.values_at["kind"], f"kind: must be Configuration, not {shown}")
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
