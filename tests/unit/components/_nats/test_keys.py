"""Keys become subjects of NATS and come back."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion_components._nats.keys import key_of, pattern_of, subject_of

KEYS = st.text(st.characters(exclude_categories=("Cs",)), max_size=20) | st.text(
    "|.=*> a\u00e4", max_size=12
)


@given(KEYS)
def test_keys_come_back(key: str) -> None:
    """Every text becomes tokens of safe signs, none of them empty, and is read back."""
    subject = subject_of(key)
    assert re.fullmatch(r"[A-Za-z0-9_/=-]+(\.[A-Za-z0-9_/=-]+)?", subject)
    assert key_of(subject) == key


@given(KEYS, st.integers(0, 20))
def test_patterns_fit(key: str, length: int) -> None:
    """The pattern of any beginning of a key fits the key's subject."""
    pattern = pattern_of(key[:length])
    expression = re.escape(pattern).replace(r"\*", "[^.]+").replace(">", ".+")
    assert re.fullmatch(expression, subject_of(key))


@pytest.mark.parametrize(
    ("key", "subject"),
    [
        ("orders||42", "orders.42"),
        ("orders||", "orders.="),
        ("||42", "=7C=7C42"),
        ("a||b||c", "a.b=7C=7Cc"),
        ("a.b", "a=2Eb"),
        ("", "="),
        ("\u00e4", "=C3=A4"),
    ],
)
def test_examples(key: str, subject: str) -> None:
    """What other clients of the bucket see."""
    assert subject_of(key) == subject


@pytest.mark.parametrize("subject", ["a.b.c", "a=2eb", "a=FF", "=41", "a..b", "x.=.", "\u00e4"])
def test_subjects_of_others(subject: str) -> None:
    """A subject that no key has is nobody's key."""
    assert key_of(subject) is None
