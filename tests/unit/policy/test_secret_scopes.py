"""Which secrets an app may read."""

from __future__ import annotations

import pytest

from pillion.policy.secret_scopes import SecretScope, everything, secret_access

AB = frozenset({"a", "b"})


@pytest.mark.parametrize(
    ("scope", "a", "c"),
    [
        (SecretScope("s"), True, True),
        (SecretScope("s", default_allowed=False), False, False),
        (SecretScope("s", allowed=AB), True, False),
        (SecretScope("s", default_allowed=False, allowed=AB), True, False),
        (SecretScope("s", denied=AB), False, True),
        (SecretScope("s", default_allowed=False, denied=AB), False, False),
        (SecretScope("s", allowed=AB, denied=AB), True, False),
    ],
)
def test_scope(scope: SecretScope, a: bool, c: bool) -> None:
    """A list of allowed secrets wins, then one of denied secrets, then the default."""
    access = secret_access([scope])
    assert (access("s", "a"), access("s", "c")) == (a, c)
    assert access("other", "a")


def test_everything() -> None:
    """Without scopes every secret may be read."""
    assert everything("s", "a")
    assert secret_access([])("s", "a")
