"""Secret stores come before whoever needs their secrets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.live_components.specs import probe, secret, vault

from pillion.components.order import defaults, waves
from pillion.config.component import ComponentSpec
from pillion.errors import Invalid


def names(groups: list[list[ComponentSpec]]) -> list[list[str]]:
    """Return the names in each group."""
    return [[spec.name for spec in group] for group in groups]


def test_secret_stores_first() -> None:
    """A secret store opens before stores, also those that need no secret of it."""
    assert names(waves([probe("a"), vault(), probe("b")])) == [["vault"], ["a", "b"]]


def test_a_secret_store_that_needs_another() -> None:
    """It opens after that one."""
    inner = vault("inner", token=secret("t"), _secret_store="outer")
    store = probe(password=secret("p"), _secret_store="inner")
    assert names(waves([store, inner, vault("outer")])) == [["outer"], ["inner"], ["store"]]


def test_embedded_secret_store_is_there_when_it_is_needed() -> None:
    """Without a declared one the embedded one opens, and only if a secret is looked up in it."""
    needs = probe(password=secret("p"), _secret_store="secretstore")
    assert names(waves([needs])) == [["secretstore"], ["store"]]
    assert names(waves([probe(_secret_store="secretstore")])) == [["store"]]


def test_a_secret_store_that_is_not_there() -> None:
    """Each component that refers to it is named, with the nearest store."""
    specs = [probe(n, password=secret("p"), _secret_store="vualt") for n in "ab"]
    with pytest.raises(Invalid) as caught:
        waves([*specs, vault()])
    assert caught.value.message.splitlines() == [
        f'{n}.yaml:1:0: {n} needs secrets from the secret store "vualt", which is not there;'
        ' did you mean "vault"?'
        for n in "ab"
    ]


def test_a_circle() -> None:
    """Secret stores that wait for one another are a mistake, not a wait."""
    one = vault("one", token=secret("t"), _secret_store="two")
    two = vault("two", token=secret("t"), _secret_store="one")
    with pytest.raises(Invalid, match=r"^one.yaml:1:0: secret stores wait .*: one, two$"):
        waves([one, two])


@given(st.data())
def test_any_order(data: st.DataObject) -> None:
    """However they are declared, each component comes once, and after its secret store."""
    count = data.draw(st.integers(1, 6))
    stores = []
    for at in range(count):
        before = data.draw(st.integers(-1, at - 1))
        needs = {"token": secret("t"), "_secret_store": f"v{before}"} if before >= 0 else {}
        stores.append(vault(f"v{at}", **needs))
    needs = {"password": secret("p"), "_secret_store": f"v{count - 1}"}
    specs = data.draw(st.permutations([*stores, probe("s", **needs)]))
    flat = [spec.name for group in waves(specs) for spec in group]
    assert sorted(flat) == sorted(spec.name for spec in specs)
    for spec in specs:
        if spec.secret_store:
            assert flat.index(spec.secret_store) < flat.index(spec.name)


def test_defaults_stand_in_for_kinds_that_are_not_declared() -> None:
    """Each kind without a component has its embedded one, under Dapr's usual name."""
    assert {name: spec.name for name, spec in defaults([]).items()} == {
        "state": "statestore",
        "lock": "lockstore",
        "secretstores": "secretstore",
    }
    assert set(defaults([probe()])) == {"lock", "secretstores"}
