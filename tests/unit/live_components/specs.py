"""Components as YAML would declare them."""

from __future__ import annotations

from typing import Any

from pillion.config.component import ComponentSpec, MetadataItem, SecretReference


def probe(name: str = "store", type_name: str = "state.probe", **metadata: Any) -> ComponentSpec:
    """Declare a store; a value may be a SecretReference, and ``_``-keys are fields of the spec."""
    fields = {key[1:]: metadata.pop(key) for key in list(metadata) if key.startswith("_")}
    if type_name.startswith("state."):
        metadata.setdefault("host", "h")
    items = tuple(
        MetadataItem(name=key, value=value, mark=f"{name}.yaml:1:{at}")
        for at, (key, value) in enumerate(metadata.items(), 1)
    )
    return ComponentSpec(
        name=name, type_name=type_name, metadata=items, mark=f"{name}.yaml:1:0", **fields
    )


def vault(name: str = "vault", **metadata: Any) -> ComponentSpec:
    """Declare a secret store."""
    return probe(name, "secretstores.probe", **metadata)


def secret(name: str, key: str = "") -> SecretReference:
    """Refer to a secret."""
    return SecretReference(name, key or name)
