"""Kinds are found by the names of their modules."""

from __future__ import annotations

import pkgutil
from importlib import import_module

import pytest

import pillion.config.model
from pillion.config import catalog
from pillion.config.model._base import Model

MODULES = [
    module.name
    for module in pkgutil.iter_modules(pillion.config.model.__path__)
    if not module.name.startswith("_")
]


@pytest.mark.parametrize("name", MODULES)
def test_every_kind_is_found(name: str) -> None:
    """What a module defines is found by exactly its kind and versions."""
    for model in import_module(f"pillion.config.model.{name}").KINDS:
        for version in model.API_VERSIONS:
            assert catalog.find(model.KIND, version) is model
            assert catalog.find(model.KIND.lower(), version) is None
        assert catalog.find(model.KIND, "example.com/v1") is None


def test_field_names_differ_in_more_than_case() -> None:
    """Names that match without case lead to one field each, in every model there is."""
    for name in MODULES:
        import_module(f"pillion.config.model.{name}")
    models = _below(Model)
    assert len(models) > len(MODULES)
    for model in models:
        names = [field.alias.casefold() for field in model.model_fields.values()]
        assert len(set(names)) == len(names), model


def _below(model: type[Model]) -> set[type[Model]]:
    found = set(model.__subclasses__())
    return found.union(*(_below(each) for each in found))


@pytest.mark.parametrize("kind", ["", "_base", "../x", "HTTP Endpoint", "Http_Endpoint", "é" * 99])
def test_strange_kinds(kind: str) -> None:
    """A kind is only ever compared, whatever it says."""
    assert catalog.find(kind, "dapr.io/v1alpha1") is None


@pytest.mark.parametrize(
    ("kind", "api_version", "meant"),
    [
        ("HttpEndpoint", "dapr.io/v1alpha1", "kind HTTPEndpoint of apiVersion dapr.io/v1alpha1"),
        ("HTTPEndpoint", "dapr.io/v1", "kind HTTPEndpoint of apiVersion dapr.io/v1alpha1"),
        ("HTTPEndpoint", "", "kind HTTPEndpoint of apiVersion dapr.io/v1alpha1"),
        ("HTTPEndpoint", "example.com/v1", None),
        ("Deployment", "apps/v1", None),
        ("Gateway", "dapr.io/v1alpha1", None),
    ],
)
def test_near_misses(kind: str, api_version: str, meant: str | None) -> None:
    """A misspelt kind or a wrong version is told apart from another program's document."""
    assert catalog.near_miss(kind, api_version) == meant
