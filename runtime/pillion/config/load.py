"""Files and folders of YAML, to resources.

Every mistake in every file is found before anything is started, and named in one message. What
Dapr ignores in silence (unknown fields, documents that do not parse) is a mistake here. What is
not for this app, by ``scopes`` or ``metadata.namespace``, is left unread, so that nobody is
stopped by a mistake in a resource of somebody else.

References to the environment and to secrets are looked up once the shape of a document is right.

A runtime that is given no YAML imports nothing of what reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pillion.config.configuration import Configuration, names_otlp_endpoint

if TYPE_CHECKING:
    from pillion.config.reading import Notice, SecretReader

T = TypeVar("T")


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
    folders, files = tuple(paths), tuple(config_files)
    if not folders and not files:
        return Resources(Configuration(otlp_endpoint=names_otlp_endpoint(environ)))
    from pillion.config.loader import Loader

    loader = Loader(app_id, namespace, environ, secrets)
    found = loader.read(folders)
    configuration = loader.configure(files)
    return Resources(configuration, loader.check(), found)
