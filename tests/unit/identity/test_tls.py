"""Mutual TLS refuses everybody who is not of our authority, and renews under live connections."""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from tests.unit.identity.handshakes import forged, meet, plain_context, shake_hands

from pillion.call import Identity
from pillion.errors import Invalid, NotAllowed
from pillion.home import Home
from pillion.identity import tls as tls_module
from pillion.identity.authority import Authority
from pillion.identity.tls import ALPN, Credentials, MeshTls

URI = "spiffe://public/ns/default/orders"


def runtime(authority: Authority, app_id: str = "orders") -> MeshTls:
    identity = Identity(authority.trust_domain, "default", app_id)
    return MeshTls(identity, authority.issue(identity), authority.roots)


def serial(end: ssl.SSLObject) -> str:
    certificate = end.getpeercert()
    assert certificate
    return str(certificate["serialNumber"])


def test_two_runtimes_meet(authority: Authority) -> None:
    """Two runtimes of one authority connect by TLS 1.3 and know each other by certificate."""
    one, other = runtime(authority), runtime(authority, "checkout")
    meet(one, other)
    callee, _ = shake_hands(one.server, other.client)
    assert callee.version() == "TLSv1.3"
    assert callee.selected_alpn_protocol() == ALPN


@pytest.mark.parametrize("domain", ["public", "other"])
def test_another_authority_is_refused(authority: Authority, tmp_path: Path, domain: str) -> None:
    """Runtimes of two homes never meet, not even under one trust domain, in either direction."""
    foreign = Authority.open(Home.locate(tmp_path / "elsewhere"), domain)
    one, other = runtime(authority), runtime(foreign)
    for server, client in ((one, other), (other, one)):
        with pytest.raises(ssl.SSLCertVerificationError):
            shake_hands(server.server, client.client)


def test_another_trust_domain_of_the_same_home_is_refused(home: Home) -> None:
    """Trust domains of one home do not trust each other."""
    one = runtime(Authority.open(home, "public"))
    other = runtime(Authority.open(home, "other"))
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(one.server, other.client)


def test_a_foreign_trust_domain_is_refused_even_under_our_root(authority: Authority) -> None:
    """A certificate of our root that claims another trust domain is not let in."""
    one = runtime(authority)
    theirs = forged(authority, [x509.UniformResourceIdentifier("spiffe://other/ns/default/orders")])
    client = plain_context(ssl.PROTOCOL_TLS_CLIENT, theirs, authority.roots)
    callee, _ = shake_hands(one.server, client)
    with pytest.raises(NotAllowed, match="trust domain"):
        one.peer(callee)


def test_no_certificate_is_refused(authority: Authority) -> None:
    """A client that shows no certificate does not get through the handshake."""
    client = plain_context(ssl.PROTOCOL_TLS_CLIENT, None, authority.roots)
    with pytest.raises(ssl.SSLError, match=r"(?i)peer did not return a certificate"):
        shake_hands(runtime(authority).server, client)


def test_older_tls_is_refused(authority: Authority, orders: Identity) -> None:
    """TLS 1.2 is not spoken."""
    client = plain_context(ssl.PROTOCOL_TLS_CLIENT, authority.issue(orders), authority.roots)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        shake_hands(runtime(authority).server, client)


def test_another_protocol_is_refused(authority: Authority, orders: Identity) -> None:
    """A runtime that speaks another protocol by ALPN is refused by name."""
    one = runtime(authority)
    client = plain_context(ssl.PROTOCOL_TLS_CLIENT, authority.issue(orders), authority.roots)
    client.set_alpn_protocols(["h2"])
    callee, _ = shake_hands(one.server, client)
    with pytest.raises(NotAllowed) as refused:
        one.peer(callee)
    assert refused.value.reason == "peer-protocol"


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_certificate_for_the_other_side_only_is_refused(authority: Authority, side: str) -> None:
    """The extended key usage counts: a server's certificate makes no client, nor the reverse."""
    one = runtime(authority)
    wrong = ExtendedKeyUsageOID.SERVER_AUTH if side == "client" else ExtendedKeyUsageOID.CLIENT_AUTH
    theirs = forged(authority, [x509.UniformResourceIdentifier(URI)], usage=wrong)
    server: ssl.SSLContext = one.server
    client: ssl.SSLContext = one.client
    if side == "client":
        client = plain_context(ssl.PROTOCOL_TLS_CLIENT, theirs, authority.roots)
    else:
        server = plain_context(ssl.PROTOCOL_TLS_SERVER, theirs, authority.roots)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server, client)


def test_a_leaf_cannot_issue(authority: Authority, home: Home) -> None:
    """A runtime's own certificate does not make it an authority."""
    identity = Identity("public", "default", "orders")
    leaf = authority.issue(identity)
    root = authority._set.roots[-1]
    rogue = dataclasses.replace(root, certificate=leaf.certificate.decode(), key=leaf.key.decode())
    from pillion.identity.certificates import new_leaf

    forged_leaf = new_leaf(
        Identity("public", "default", "admin"), rogue, now=time.time(), lifetime=60
    )
    chain = dataclasses.replace(forged_leaf, certificate=forged_leaf.certificate + leaf.certificate)
    client = plain_context(ssl.PROTOCOL_TLS_CLIENT, chain, authority.roots)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(runtime(authority).server, client)


def test_renewal_shows_a_new_certificate(authority: Authority) -> None:
    """After a renewal both sides show the new certificate, through the same context objects."""
    one, other = runtime(authority), runtime(authority, "checkout")
    server, client = one.server, one.client
    callee, caller = shake_hands(server, other.client)
    before = serial(caller)
    one.renew(authority.issue(one.identity), authority.roots)
    assert (one.server, one.client) == (server, client)
    after = serial(shake_hands(server, other.client)[1])
    assert after != before
    assert serial(shake_hands(other.server, client)[0]) == after
    callee.write(b"old connections go on")
    assert caller.read() == b"old connections go on"


def broken(good: Credentials, other: Credentials, kind: str) -> Credentials:
    return {
        "mismatch": dataclasses.replace(good, key=other.key),
        "no key": dataclasses.replace(good, key=b""),
        "garbage": dataclasses.replace(good, certificate=b"-----BEGIN CERTIFICATE-----\nxx\n"),
        "half": dataclasses.replace(good, certificate=good.certificate[:200]),
        "identity": other,
    }[kind]


@pytest.mark.parametrize("kind", ["mismatch", "no key", "garbage", "half", "identity"])
def test_a_wrong_renewal_changes_nothing(authority: Authority, kind: str) -> None:
    """Key and certificate that do not fit are refused, and the contexts in use go on working."""
    one, other = runtime(authority), runtime(authority, "checkout")
    good = authority.issue(one.identity)
    with pytest.raises(Invalid) as refused:
        one.renew(broken(good, authority.issue(other.identity), kind), authority.roots)
    assert b"PRIVATE" not in refused.value.message.encode()
    meet(one, other)
    one.renew(good, authority.roots)
    meet(one, other)


@pytest.mark.parametrize("roots", [b"", b"garbage", "wörter".encode(), b"foreign"])
def test_wrong_roots_change_nothing(authority: Authority, tmp_path: Path, roots: bytes) -> None:
    """Roots that do not verify our own certificate are refused, and the contexts go on working."""
    if roots == b"foreign":
        roots = Authority.open(Home.locate(tmp_path / "elsewhere"), "public").roots
    one, other = runtime(authority), runtime(authority, "checkout")
    with pytest.raises(Invalid):
        one.renew(authority.issue(one.identity), roots)
    meet(one, other)


def test_an_expired_certificate_is_refused(authority: Authority, orders: Identity) -> None:
    """An expired certificate is named as such, when it is ours and when it is a peer's."""
    old = authority.issue(orders, lifetime=60, now=time.time() - 120)
    with pytest.raises(Invalid, match="expired"):
        MeshTls(orders, old, authority.roots)
    client = plain_context(ssl.PROTOCOL_TLS_CLIENT, old, authority.roots)
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        shake_hands(runtime(authority).server, client)


def test_clocks_may_differ(authority: Authority, orders: Identity) -> None:
    """A certificate made by a clock four minutes ahead is valid already."""
    ahead = authority.issue(orders, now=time.time() + 240)
    meet(MeshTls(orders, ahead, authority.roots), runtime(authority, "checkout"))


def test_roots_can_be_added_and_taken_away(authority: Authority, tmp_path: Path) -> None:
    """A renewal with more roots lets their runtimes in; one with fewer shuts them out again."""
    foreign = Authority.open(Home.locate(tmp_path / "elsewhere"), "public")
    one, other = runtime(authority), runtime(foreign, "checkout")
    other.renew(foreign.issue(other.identity), foreign.roots + authority.roots)
    one.renew(authority.issue(one.identity), authority.roots + foreign.roots)
    meet(one, other)
    one.renew(authority.issue(one.identity), authority.roots)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(one.server, other.client)


def test_reaching_around_the_contexts_fails_closed(authority: Authority) -> None:
    """Whoever uses the outer context's own machinery gets no certificate and no trust."""
    one = runtime(authority)
    bare = ssl.SSLContext.wrap_bio
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    caller = bare(one.client, down, up)
    callee = one.server.current.wrap_bio(up, down, server_side=True)
    with pytest.raises(ssl.SSLWantReadError):
        caller.do_handshake()
    with pytest.raises(ssl.SSLWantReadError):
        callee.do_handshake()
    with pytest.raises(ssl.SSLCertVerificationError):
        caller.do_handshake()


@pytest.mark.parametrize("memory", [True, False])
def test_keys_leave_no_file(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, memory: bool
) -> None:
    """A runtime's key is on no disk afterwards, with files in memory and without."""
    if not memory:
        monkeypatch.setattr(tls_module, "_anonymous_file", lambda: None)
    scratch = tmp_path / "scratch"
    scratch.mkdir(mode=0o700)
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    identity = Identity("public", "default", "orders")
    credentials = authority.issue(identity)
    MeshTls(identity, credentials, authority.roots, scratch=scratch)
    with pytest.raises(Invalid):
        MeshTls(
            identity,
            dataclasses.replace(credentials, key=b""),
            authority.roots,
            scratch=scratch,
        )
    assert list(scratch.iterdir()) == []
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
    secret = credentials.key.splitlines()[1]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not any(secret in path.read_bytes() for path in files)
    assert credentials.key.decode() not in repr(credentials)


@asynccontextmanager
async def listening(one: MeshTls, seen: list[Identity]) -> AsyncIterator[int]:
    """Serve echoes, noting each caller."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(one.peer(writer.get_extra_info("ssl_object")))
        while data := await reader.read(1024):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=one.server)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def connect(
    one: MeshTls, port: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Identity]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=one.client)
    return reader, writer, one.peer(writer.get_extra_info("ssl_object"))


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"still there?")
    assert await reader.readexactly(12) == b"still there?"


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


@pytest.mark.anyio
async def test_renewals_under_live_handshakes(authority: Authority) -> None:
    """While both sides renew without a pause, every handshake works and old connections go on."""
    one = await asyncio.to_thread(runtime, authority)
    other = await asyncio.to_thread(runtime, authority, "checkout")
    seen: list[Identity] = []
    shown: set[str] = set()
    done = asyncio.Event()

    async def knock(port: int) -> None:
        while not done.is_set():
            reader, writer, peer = await connect(other, port)
            assert peer == one.identity
            shown.add(serial(writer.get_extra_info("ssl_object")))
            await ask(reader, writer)
            await hang_up(writer)

    async with listening(one, seen) as port:
        old_reader, old_writer, _ = await connect(other, port)
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(knock(port))
            for _ in range(30):
                for each in (one, other):
                    credentials = await asyncio.to_thread(authority.issue, each.identity)
                    await asyncio.to_thread(each.renew, credentials, authority.roots)
            done.set()
        await ask(old_reader, old_writer)
        await hang_up(old_writer)
    assert set(seen) == {other.identity}
    assert len(shown) >= 10


@pytest.mark.anyio
async def test_another_authority_is_refused_on_the_wire(
    authority: Authority, tmp_path: Path
) -> None:
    """Over sockets too, a peer of another authority gets no byte through."""
    elsewhere = await asyncio.to_thread(Home.locate, tmp_path / "elsewhere")
    foreign = await asyncio.to_thread(Authority.open, elsewhere, "public")
    one = await asyncio.to_thread(runtime, authority)
    other = await asyncio.to_thread(runtime, foreign, "checkout")
    seen: list[Identity] = []
    async with listening(one, seen) as port:
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(other, port)
        # A client that trusts us but is not trusted learns it with its first read.
        credentials = await asyncio.to_thread(foreign.issue, other.identity)
        await asyncio.to_thread(other.renew, credentials, foreign.roots + authority.roots)
        reader, writer, _ = await connect(other, port)
        writer.write(b"let me in")
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.transport.abort()
    assert seen == []
