"""Failures keep their kind and what programs act on when the API gives them its words."""

from __future__ import annotations

import pytest

from pillion.blocks.retelling import retold
from pillion.errors import BY_NAME, Failure, Overloaded, Unavailable


@pytest.mark.parametrize("kind", BY_NAME.values())
def test_every_kind(kind: type[Failure]) -> None:
    """Kind, reason and the rest stay; code, message and details are the API's."""
    failure = kind("old", code="ERR_OLD", reason="why", reached=False, retry_after=3.0)
    told = retold(failure, "ERR_NEW", "new", [{"@type": "x"}])
    assert type(told) is kind
    assert (told.code, told.message, told.details) == ("ERR_NEW", "new", [{"@type": "x"}])
    assert (told.reason, told.reached, told.retry_after) == ("why", False, 3.0)


def test_kinds_that_components_derive() -> None:
    """A component's own class, whatever it is made from, becomes ours."""

    class Lagging(Unavailable):
        def __init__(self, replica: int) -> None:
            super().__init__(f"replica {replica} lags", reason="lag")

    told = retold(Lagging(3), "ERR_NEW", "new")
    assert type(told) is Unavailable
    assert told.reason == "lag"


def test_another_kind() -> None:
    """The kind may be set, where the status must not be the failure's own."""
    assert type(retold(Overloaded("x"), "ERR_NEW", "new", kind=Failure)) is Failure
