"""Which key a store sees, and which keys an app can name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion.policy.state_keys import KeyPrefix, is_legal

KEY = st.text(max_size=12).filter(is_legal)
STRATEGY = st.sampled_from(["appid", "name", "namespace", "none", "", "Literal", "a|b"])


def prefix(strategy: str) -> KeyPrefix:
    return KeyPrefix.of(strategy, app_id="orders", namespace="shop", component="store")


@pytest.mark.parametrize(
    ("strategy", "text"),
    [
        ("appid", "orders||"),
        ("", "orders||"),
        ("AppId", "orders||"),
        ("name", "store||"),
        ("namespace", "shop.orders||"),
        ("none", ""),
        ("Literal", "Literal||"),
    ],
)
def test_prefixes(strategy: str, text: str) -> None:
    """The five forms; words match in any case, another text is taken as it is."""
    assert prefix(strategy).text == text


@given(STRATEGY, KEY)
def test_keys_come_back(strategy: str, key: str) -> None:
    """A key is the app's own after the way to the store and back."""
    one = prefix(strategy)
    assert one.bare(one.stored(key)) == key
    assert one.owns(one.stored(key))


@given(STRATEGY, STRATEGY, KEY)
def test_prefixes_keep_apps_apart(first: str, second: str, key: str) -> None:
    """A key of one prefix is not of another."""
    one, other = prefix(first), prefix(second)
    if one != other and other.text:
        assert not other.owns(one.stored(key)) or one.text == ""


def test_keys_of_other_prefixes_are_named_without_them() -> None:
    """A query finds keys of other apps; their prefix is no part of the key."""
    assert prefix("appid").bare("billing||k") == "k"
    assert prefix("none").bare("billing||k") == "k"
    assert prefix("appid").bare("k") == "k"


def test_locks() -> None:
    """A lock's resource has a place of its own in front of the prefix."""
    assert prefix("appid").lock("r") == "lock||orders||r"
    assert prefix("none").lock("r") == "lock||r"
