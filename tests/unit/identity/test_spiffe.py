"""Identities are read strictly, and read off certificates only when there is exactly one."""

from __future__ import annotations

import ssl

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.identity.handshakes import forged, plain_context, shake_hands

from pillion.call import Identity
from pillion.errors import Invalid, NotAllowed
from pillion.identity.authority import Authority
from pillion.identity.spiffe import identify, parse_id
from pillion.identity.tls import MeshTls

SEGMENT = st.text("abzABZ019._-", min_size=1, max_size=20).filter(lambda s: s not in (".", ".."))
DOMAIN = st.from_regex(r"\A[a-z0-9][a-z0-9._-]{0,30}\Z")

WRONG = [
    "",
    "orders",
    "https://public/ns/default/orders",
    "SPIFFE://public/ns/default/orders",
    "spiffe:/public/ns/default/orders",
    "spiffe://public",
    "spiffe://public/ns/default",
    "spiffe://public/ns/default/",
    "spiffe://public/ns//orders",
    "spiffe:///ns/default/orders",
    "spiffe://public/ns/default/orders/",
    "spiffe://public/ns/default/orders/extra",
    "spiffe://public/sa/default/orders",
    "spiffe://public/ns/../orders",
    "spiffe://public/ns/default/..",
    "spiffe://public/ns/./orders",
    "spiffe://public/ns/default/../../ns/default/orders",
    "spiffe://public/ns/default/%2e%2e",
    "spiffe://public/ns/default/orders%00",
    "spiffe://public/ns/default/orders\n",
    "spiffe://public/ns/default/orders\0",
    " spiffe://public/ns/default/orders",
    "spiffe://public/ns/default/orders?x=1",
    "spiffe://public/ns/default/orders#x",
    "spiffe://public:8443/ns/default/orders",
    "spiffe://user@public/ns/default/orders",
    "spiffe://Public/ns/default/orders",
    "spiffe://../ns/default/orders",
    "spiffe://públic/ns/default/orders",
    "spiffe://public/ns/default/örders",
    "spiffe://public/ns/default/order٣",
    "spiffe://public/ns/default/" + "a" * 2048,
    "spiffe://" + "a" * 256 + "/ns/default/orders",
]


@pytest.mark.parametrize("uri", WRONG, ids=range(len(WRONG)))
def test_anything_else_is_refused(uri: str) -> None:
    """Every other spelling is refused, and a long one does not fill the log."""
    with pytest.raises(Invalid) as refused:
        parse_id(uri)
    assert len(refused.value.message) < 1000


@given(DOMAIN, SEGMENT, SEGMENT)
def test_identities_survive_a_round_trip(domain: str, namespace: str, app_id: str) -> None:
    """What an identity prints as is read back as the same identity."""
    identity = Identity(domain, namespace, app_id)
    assert parse_id(identity.uri) == identity


@given(st.text() | st.from_regex(r"spiffe://[^/]*/ns/.*/.*"))
def test_no_two_spellings_name_one_app(uri: str) -> None:
    """Whatever is accepted is the one spelling of what it means."""
    try:
        identity = parse_id(uri)
    except Invalid:
        return
    assert identity.uri == uri


def uris(*names: str) -> list[x509.GeneralName]:
    return [x509.UniformResourceIdentifier(name) for name in names]


GOOD = "spiffe://public/ns/default/evil"

FORGED: dict[str, list[x509.GeneralName] | None] = {
    "no names": None,
    "no uri": [x509.DNSName("spiffe://public/ns/default/evil")],
    "two": uris(GOOD, "spiffe://public/ns/default/orders"),
    "twice the same": uris(GOOD, GOOD),
    "malformed": uris("spiffe://public/ns/default"),
    "scheme": uris("https://public/ns/default/orders"),
    "traversal": uris("spiffe://public/ns/default/../default/orders"),
    "nul": uris("spiffe://public/ns/default/orders\0.evil"),
    "root": uris("spiffe://public"),
}


@pytest.mark.parametrize("names", FORGED.values(), ids=FORGED.keys())
def test_wrong_names_are_refused_on_both_sides(
    authority: Authority, orders: Identity, names: list[x509.GeneralName] | None
) -> None:
    """A certificate of our own root without exactly one identity is nobody's."""
    ours = MeshTls(orders, authority.issue(orders), authority.roots)
    theirs = forged(authority, names)
    client = plain_context(ssl.PROTOCOL_TLS_CLIENT, theirs, authority.roots)
    server = plain_context(ssl.PROTOCOL_TLS_SERVER, theirs, authority.roots)
    for end in (
        shake_hands(ours.server, client)[0],
        shake_hands(server, ours.client)[1],
    ):
        with pytest.raises(NotAllowed) as refused:
            identify(end)
        assert refused.value.reason == "peer-identity"
        assert not refused.value.reached


def test_other_kinds_of_names_do_no_harm(authority: Authority, orders: Identity) -> None:
    """One URI beside host names is an identity, as the specification says."""
    ours = MeshTls(orders, authority.issue(orders), authority.roots)
    theirs = forged(authority, [x509.DNSName("host"), *uris(GOOD), x509.DNSName("other")])
    client = plain_context(ssl.PROTOCOL_TLS_CLIENT, theirs, authority.roots)
    assert identify(shake_hands(ours.server, client)[0]).app_id == "evil"


def test_without_a_handshake_there_is_nobody(authority: Authority, orders: Identity) -> None:
    """A connection that is not through its handshake has no identity."""
    ours = MeshTls(orders, authority.issue(orders), authority.roots)
    end = ours.client.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())
    with pytest.raises(NotAllowed):
        identify(end)


def test_a_peer_without_a_certificate_is_nobody(authority: Authority, orders: Identity) -> None:
    """Where a context asked for no certificate, the identity is refused and not empty."""
    server = plain_context(ssl.PROTOCOL_TLS_SERVER, authority.issue(orders), authority.roots)
    server.verify_mode = ssl.CERT_NONE
    client = plain_context(ssl.PROTOCOL_TLS_CLIENT, None, authority.roots)
    with pytest.raises(NotAllowed):
        identify(shake_hands(server, client)[0])
