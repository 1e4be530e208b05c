"""Which kinds of resources there are: one module of ``config/model/`` each, named for its kind.

``kind: HTTPEndpoint`` is ``model/http_endpoint.py``. There is no list to add to, and only the
kinds that a document names are imported.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

import pillion.config.model
from pillion.nearest import nearest

if TYPE_CHECKING:
    from pillion.config.model._base import Resource

_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def find(kind: str, api_version: str) -> type[Resource] | None:
    """Return the model of the documents with exactly this kind and version, or None."""
    for model in _models(kind):
        if kind == model.KIND and api_version in model.API_VERSIONS:
            return model
    return None


def near_miss(kind: str, api_version: str) -> str | None:
    """Return the ``kind of apiVersion`` that a document we do not know was perhaps meant to be.

    A kind that is named nearly like a known one, or a known kind in another version of its API
    group; None for whatever belongs to other programs.
    """
    names = {name.replace("_", ""): name for name in _modules()}
    close = nearest(kind.replace("_", ""), names)
    if close is None:
        return None
    group = api_version.partition("/")[0]
    for model in import_module(_modules()[names[close]]).KINDS:
        versions = model.API_VERSIONS
        same_group = any(version.partition("/")[0] == group for version in versions)
        if same_group or (not api_version and kind == model.KIND):
            version = api_version if api_version in versions else versions[0]
            return f"kind {model.KIND} of apiVersion {version}"
    return None


def _models(kind: str) -> tuple[type[Resource], ...]:
    name = _WORD.sub("_", kind).lower()
    if name not in _modules():
        return ()
    models: tuple[type[Resource], ...] = import_module(_modules()[name]).KINDS
    return models


@cache
def _modules() -> Mapping[str, str]:
    package = pillion.config.model
    return {
        module.name: f"{package.__name__}.{module.name}"
        for module in pkgutil.iter_modules(package.__path__)
        if not module.name.startswith("_")
    }
