"""What all models share: how fields are matched, and what every resource has."""

from __future__ import annotations

from abc import abstractmethod
from functools import cache
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from pillion.config.model._fields import PROBLEM, Free, NoEffectYet, Text, refuse
from pillion.config.nodes import Table
from pillion.config.reading import Reading

_STRUCTURE = {
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping",
}
"""What pydantic's own errors mean here; everything else is checked by our field types."""


class Model(BaseModel):
    """A mapping with known fields; named in camel case unless an alias says otherwise."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel)

    @model_validator(mode="before")
    @classmethod
    def _match_names(cls, data: Any, info: ValidationInfo) -> Any:
        if not isinstance(data, Table):
            refuse("must be a mapping")
        reading = reading_of(info)
        return reading.canonical(data, *_names(cls))


def reading_of(info: ValidationInfo) -> Reading:
    """Return the document that is being validated."""
    if not isinstance(info.context, Reading):
        raise TypeError("models are read by Resource.read, which knows the document")
    return info.context


@cache
def _names(model: type[Model]) -> tuple[dict[str, str], dict[str, bool]]:
    """Return the right name by folded name, and the names without effect."""
    names: dict[str, str] = {}
    without_effect: dict[str, bool] = {}
    for field in model.model_fields.values():
        name = field.alias or ""
        names[name.casefold()] = name
        for mark in field.metadata:
            if isinstance(mark, NoEffectYet):
                without_effect[name] = mark.warning
    return names, without_effect


class Metadata(Model):
    """What Kubernetes keeps about an object; ``name`` and ``namespace`` count here."""

    name: Text | None = None
    namespace: Text = ""
    generate_name: Free = None
    labels: Free = None
    annotations: Free = None
    cluster_name: Free = None
    creation_timestamp: Free = None
    deletion_grace_period_seconds: Free = None
    deletion_timestamp: Free = None
    finalizers: Free = None
    generation: Free = None
    managed_fields: Free = None
    owner_references: Free = None
    resource_version: Free = None
    self_link: Free = None
    uid: Free = None


class Resource(Model):
    """One kind of resource: its ``kind``, ``apiVersion`` and the shape of a document.

    Attributes:
        KIND: exactly as documents write it.
        API_VERSIONS: those that are read.
        IGNORE_CASE: True where field names match without case, as Dapr's decoder does.
        UNIQUE: True when two loaded resources of the kind must not share a name.
        NAMED: True when ``metadata.name`` must be there.
        BY_FLAG: the flag that names its files, where it is not read from folders; else empty.
    """

    KIND: ClassVar[str]
    API_VERSIONS: ClassVar[tuple[str, ...]]
    IGNORE_CASE: ClassVar[bool] = True
    UNIQUE: ClassVar[bool] = True
    NAMED: ClassVar[bool] = True
    BY_FLAG: ClassVar[str] = ""

    api_version: Text = ""
    kind: Text = ""
    metadata: Metadata = Field(default_factory=Metadata.model_construct)
    status: Free = None

    @classmethod
    def read(cls, reading: Reading) -> Self | None:
        """Return the document as this model, or note what is wrong with it and return None."""
        try:
            model = cls.model_validate(reading.root, context=reading)
        except ValidationError as error:
            for details in error.errors(include_url=False, include_input=False):
                _report(reading, details)
            return None
        if cls.NAMED and not model.metadata.name:
            reading.missing(("metadata", "name"))
            return None
        return model

    @abstractmethod
    def build(self, reading: Reading) -> object | None:
        """Return the value that the runtime works with.

        Whatever else is wrong is noted in ``reading``; then the result may be None.
        """


class Scoped(Resource):
    """A resource that only the listed apps load; all of them when the list is empty."""

    scopes: tuple[Text, ...] = ()


def _report(reading: Reading, details: ErrorDetails) -> None:
    path = tuple(details["loc"])
    if details["type"] == "missing":
        reading.missing(path)
        return
    if details["type"] != PROBLEM:
        reading.problem(path, _STRUCTURE.get(details["type"], details["msg"]))
        return
    context = details["ctx"]
    reading.problem(path, context["problem"], hint=context["hint"], quote=context["quote"])
