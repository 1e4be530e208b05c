"""Values that stand in the file, in the environment or in a secret store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from pydantic import model_validator

from pillion.config.model._base import Model
from pillion.config.model._fields import JsonText, Name, Text, refuse
from pillion.config.nodes import Path
from pillion.config.reading import Reading


class Auth(Model):
    """The secret store that a resource's references are looked up in."""

    secret_store: Text = ""


class SecretKeyRef(Model):
    """A secret by name, and the key in it; by default the name again."""

    name: Name
    key: Text = ""


class PemSource(Model):
    """PEM text, in the file or in a secret store."""

    value: JsonText | None = None
    secret_key_ref: SecretKeyRef | None = None

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        _check_one({"value": self.value, "secretKeyRef": self.secret_key_ref})
        return self


class NamedValue(Model):
    """A name, and where its value comes from: exactly one of the three."""

    name: Name
    value: JsonText | None = None
    secret_key_ref: SecretKeyRef | None = None
    env_ref: Text | None = None

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        sources = {"value": self.value, "secretKeyRef": self.secret_key_ref}
        _check_one({**sources, "envRef": self.env_ref})
        return self


def _check_one(sources: Mapping[str, object]) -> None:
    given = [name for name, value in sources.items() if value is not None]
    if len(given) != 1:
        found = f", not {' and '.join(given)}" if given else ""
        refuse(f"needs exactly one of {', '.join(sources)}{found}", quote=False)


def resolve(source: PemSource | NamedValue, path: Path, reading: Reading, store: str) -> str | None:
    """Return the value of ``source``, or note why there is none and return None.

    Args:
        source: what stands at ``path``.
        path: where, for messages.
        reading: the document.
        store: the secret store of the resource; empty for none.
    """
    if source.secret_key_ref is not None:
        reference = source.secret_key_ref
        key = reference.key or reference.name
        return reading.secret((*path, "secretKeyRef"), store, reference.name, key)
    if isinstance(source, NamedValue) and source.env_ref is not None:
        return _from_environment(source.env_ref, (*path, "envRef"), reading)
    return source.value


def _from_environment(name: str, path: Path, reading: Reading) -> str | None:
    why = refused_variable(name, reading.environ)
    if why is None and name not in reading.environ:
        why = f"the environment variable {name} is not set"
    if why is not None:
        reading.problem(path, why)
        return None
    return reading.environ[name]


def refused_variable(name: str, environ: Mapping[str, str]) -> str | None:
    """Return why ``envRef`` may not read ``name``, or None when it may.

    The runtime's own variables hold tokens; ``DAPR_ENV_KEYS``, names with spaces between them,
    is an allow list when it is set.
    """
    upper = name.upper()
    if upper == "APP_API_TOKEN" or upper.startswith("DAPR_"):
        return f"{name} belongs to the runtime and cannot be referred to"
    if not name or " " in name:
        return "must be the name of an environment variable"
    allowed = environ.get("DAPR_ENV_KEYS", "").upper().split()
    if allowed and upper not in allowed:
        return f"{name} is not among the variables that DAPR_ENV_KEYS allows"
    return None
