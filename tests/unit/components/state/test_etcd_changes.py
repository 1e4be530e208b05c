"""Folding the changes of a transaction into one step per key."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion.errors import Conflict, Invalid
from pillion.kinds.state import Put, Remove, Write
from pillion_components.state._etcd_changes import fold, revision_of, tag_of

NOW = 1_700_000_000.0

Store = dict[str, int]


def in_order(changes: list[Write], store: Store) -> Store | None:
    """Apply changes one by one, as the promise says; None when one does not hold."""
    store, fresh = dict(store), 1000
    for change in changes:
        present = store.get(change.key)
        create_only = isinstance(change, Put) and change.create_only
        if create_only and present is not None:
            return None
        if change.etag is not None and change.etag != str(present):
            return None
        if isinstance(change, Put):
            fresh += 1
            store[change.key] = fresh
        else:
            store.pop(change.key, None)
    return store


def folded(changes: list[Write], store: Store) -> Store | None:
    """Apply the steps all at once, as etcd does."""
    try:
        steps = fold(changes, NOW)
    except Conflict:
        return None
    assert len({step.key for step in steps}) == len(steps)
    if any(step.revision is not None and step.revision != store.get(step.key, 0) for step in steps):
        return None
    after = dict(store)
    for step in steps:
        if isinstance(step.change, Put):
            after[step.key] = 1001
        else:
            after.pop(step.key, None)
    return after


keys = st.sampled_from("ab")
tags = st.sampled_from([None, None, "1", "2"])
puts = st.builds(Put, keys, st.just(b""), etag=tags)
creates = st.builds(Put, keys, st.just(b""), create_only=st.just(True))
changes = st.lists(st.one_of(puts, creates, st.builds(Remove, keys, etag=tags)), max_size=5)


@given(changes, st.dictionaries(keys, st.sampled_from([1, 2])))
def test_folding_keeps_the_meaning(changes: list[Write], store: Store) -> None:
    """For any changes and any store: all at once succeeds where one by one does, with its keys."""
    one_by_one, at_once = in_order(changes, store), folded(changes, store)
    assert (one_by_one is None) == (at_once is None)
    if one_by_one is not None and at_once is not None:
        assert one_by_one.keys() == at_once.keys()


def test_last_change_of_a_key_wins() -> None:
    """The value and the ttl of the last put are what is written."""
    last = Put("a", b"2", ttl=5)
    (step,) = fold([Put("a", b"1", create_only=True), last], NOW)
    assert (step.change, step.revision, step.creates) == (last, 0, True)


@given(st.integers(1, 2**63 - 1), st.none() | st.floats(NOW + 1, NOW + 1e9))
def test_tag_gives_its_revision_back(revision: int, expires: float | None) -> None:
    """A tag that was given, and whose value has not expired, stands for its revision."""
    assert revision_of(tag_of(revision, expires), "key", NOW) == revision


def test_tag_of_an_expired_value_conflicts() -> None:
    """A write that builds on a value that expired meanwhile is refused."""
    with pytest.raises(Conflict):
        revision_of(tag_of(7, NOW), "key", NOW)


@given(st.text())
def test_any_other_text_is_no_tag(text: Any) -> None:
    """A text either is a tag of ours or is refused as none."""
    try:
        revision = revision_of(text, "key", NOW)
    except (Invalid, Conflict):
        return
    assert text == str(revision) or text.startswith(f"{revision}-")
