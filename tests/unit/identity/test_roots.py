"""The overlap of roots holds for every order of renewals and rotations."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pillion.identity.roots import Root, RootSet

YEAR = 365 * 86400.0


def root(name: str, not_before: float = 0.0, not_after: float = 10 * YEAR) -> Root:
    return Root(certificate=f"{name}\n", key="secret", not_before=not_before, not_after=not_after)


def one(longest: float = 60.0) -> RootSet:
    return RootSet(trust_domain="public", roots=(root("old"),), longest=longest)


def test_a_rotation_has_two_equal_steps() -> None:
    """The new root is trusted at once, issues after one lifetime, stands alone after two."""
    roots = one().followed_by(root("new"), 100.0)
    expected = {
        100.0: ("old", b"old\nnew\n"),
        159.9: ("old", b"old\nnew\n"),
        160.0: ("new", b"old\nnew\n"),
        219.9: ("new", b"old\nnew\n"),
        220.0: ("new", b"new\n"),
    }
    for now, (issuer, bundle) in expected.items():
        chosen = roots.issuer(now)
        assert chosen is not None
        assert chosen.certificate.strip() == issuer
        assert roots.bundle(now) == bundle
    assert roots.rotating(219.9) == 220.0
    assert roots.rotating(220.0) is None
    assert len(roots.pruned(219.9).roots) == 2
    assert [each.certificate for each in roots.pruned(220.0).roots] == ["new\n"]


def test_the_key_is_not_printed() -> None:
    """Neither a root nor a set of them shows a key when it is printed."""
    assert "secret" not in repr(one())


def test_a_successor_is_wanted_in_the_last_tenth() -> None:
    """A root is followed when a tenth of its life is left, and only once."""
    roots = one()
    assert not roots.needs_successor(8.9 * YEAR)
    assert roots.needs_successor(9.1 * YEAR)
    followed = roots.followed_by(root("new", 9.1 * YEAR, 19.1 * YEAR), 9.1 * YEAR)
    assert not followed.needs_successor(9.1 * YEAR)
    assert not followed.needs_successor(9.9 * YEAR)


def test_with_no_valid_root_the_next_issues_at_once() -> None:
    """After the end of all roots, or under a clock set back far, there is nothing to overlap."""
    for now in (11 * YEAR, -YEAR):
        roots = one()
        assert roots.issuer(now) is None
        assert roots.needs_successor(now)
        followed = roots.followed_by(root("new", now - 300, now + 10 * YEAR), now)
        issuer = followed.issuer(now)
        assert issuer is not None
        assert issuer.certificate == "new\n"
        assert b"new\n" in followed.bundle(now)


@given(
    st.lists(st.floats(0.4, 0.99), min_size=8, max_size=60),
    st.lists(st.floats(0.4, 0.99), min_size=8, max_size=60),
    st.lists(st.floats(0.0, 500.0), min_size=1, max_size=6),
)
def test_every_leaf_is_trusted_by_every_runtime(
    first: list[float], second: list[float], rotations: list[float]
) -> None:
    """Whenever runtimes renew within a lifetime and roots rotate, each trusts each one's leaf."""
    lifetime = 60.0
    roots = one(lifetime)
    renewals = []
    for shares in (first, second):
        now = 0.0
        for share in shares:
            renewals.append((now, id(shares)))
            now += share * lifetime
    events = sorted([*renewals, *((now, 0) for now in rotations)])
    last = min(max(now for now, who in renewals if who == id(shares)) for shares in (first, second))
    signer: dict[int, str] = {}
    trusted: dict[int, bytes] = {}
    for now, who in events:
        if now > last:
            break  # one of them has stopped renewing
        if who == 0:
            if roots.rotating(now) is None:
                roots = roots.followed_by(root(f"root at {now}"), now).pruned(now)
        else:
            issuer = roots.issuer(now)
            assert issuer is not None
            assert issuer.end - now >= lifetime
            signer[who] = issuer.certificate
            trusted[who] = roots.bundle(now)
        for certificate in signer.values():
            for bundle in trusted.values():
                assert certificate.encode() in bundle


def test_the_first_root_issues_for_clocks_read_a_moment_earlier() -> None:
    """Processes that start together agree on the first root, whose clock was read when."""
    empty = RootSet(trust_domain="public", roots=())
    roots = empty.followed_by(root("first", 1000.0 - 300.0), 1000.0)
    assert not roots.needs_successor(999.0)
    assert roots.issuer(999.0) == roots.issuer(1000.0) == roots.roots[0]
