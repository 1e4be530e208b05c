"""The authority is made once, survives being killed, and rotates its root by the clock."""

from __future__ import annotations

import json
import logging
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from tests.unit.identity.handshakes import meet

from pillion.call import Identity
from pillion.errors import Conflict, Invalid, Unavailable
from pillion.home import Home
from pillion.identity.authority import DAY, ROOT_LIFETIME, Authority
from pillion.identity.tls import MeshTls

ORDERS = Identity("public", "default", "orders")
SLACK = 300.0
"""Seconds by which the authority back-dates."""


def folder(home: Home, domain: str = "public") -> Path:
    return home.path / "authority" / domain


def modes(home: Home) -> dict[str, int]:
    found = {".": stat.S_IMODE(home.path.stat().st_mode)}
    for path in home.path.rglob("*"):
        found[str(path.relative_to(home.path))] = stat.S_IMODE(path.stat().st_mode)
    return found


OPEN_TOGETHER = """
import sys
from pathlib import Path
from pillion.call import Identity
from pillion.home import Home
from pillion.identity import authority, certificates, tls
print("ready", flush=True)
sys.stdin.readline()
ours = authority.Authority.open(Home.locate(Path(sys.argv[1])), "public")
who = Identity("public", "default", sys.argv[2])
credentials = ours.issue(who)
tls.MeshTls(who, credentials, ours.roots)
print(ours.roots.hex(), flush=True)
"""


def test_processes_that_start_together_get_one_root(tmp_path: Path) -> None:
    """Twenty processes let go at the same moment in a home that does not exist share one root."""
    path = tmp_path / "deep" / "home"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN_TOGETHER, str(path), f"app-{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(20)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    bundles = {process.communicate(timeout=30)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0] * 20
    assert len(bundles) == 1
    bundle = bytes.fromhex(bundles.pop())
    assert bundle.count(b"BEGIN CERTIFICATE") == 1
    assert bundle == (path / "authority" / "public" / "roots.pem").read_bytes()


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
from pillion.call import Identity
from pillion.home import Home
from pillion.identity import authority, certificates

base, rounds = Path(sys.argv[1]), int(sys.argv[2])
who = Identity("public", "default", "orders")

def begin(path):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            authority.Authority.open(Home.locate(path), "public").issue(who)
            status = 0
        finally:
            os._exit(status)
    return pid

started = time.perf_counter()
assert os.waitpid(begin(base / "whole"), 0)[1] == 0
whole = time.perf_counter() - started
early = late = 0
for number in range(rounds):
    path = base / str(number)
    pid = begin(path)
    time.sleep(random.uniform(0.0, whole))
    os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    made = (path / "authority" / "public" / "authority.json").exists()
    early += not made
    late += made and status != 0
    before = (path / "authority/public/authority.json").read_bytes() if made else b""
    assert os.waitpid(begin(path), 0)[1] == 0, number
    after = (path / "authority/public/authority.json").read_bytes()
    if made:
        import json
        assert json.loads(after)["roots"]["roots"] == json.loads(before)["roots"]["roots"]
print(early, late)
"""


def test_killed_while_creating(tmp_path: Path) -> None:
    """Killed by SIGKILL at a random moment of creation, sixty times, the next open works."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), "60"],
        capture_output=True,
        check=False,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    early, late = map(int, done.stdout.split())
    assert early > 0, "no kill came before the root was there"
    assert early + late >= 20, "most kills came after the end"


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o277])
def test_everything_is_private(tmp_path: Path, umask: int) -> None:
    """Whatever the umask, directories are 0700 and files 0600."""
    old = os.umask(umask)
    try:
        home = Home.locate(tmp_path / "parent" / "home")
        authority = Authority.open(home, "public")
        authority.issue(ORDERS)
        authority.rotate_root()
    finally:
        os.umask(old)
    found = modes(home)
    assert {name for name, mode in found.items() if mode == 0o700} == {
        ".",
        "authority",
        "authority/public",
    }
    assert {name for name, mode in found.items() if mode == 0o600} == {
        "authority/public/authority.json",
        "authority/public/roots.pem",
        "authority/public/lock",
    }
    assert len(found) == 6
    assert stat.S_IMODE((tmp_path / "parent").stat().st_mode) == 0o700


def damage(data: bytes, kind: str) -> bytes:
    saved = json.loads(data)
    root = saved["roots"]["roots"][0]
    if kind == "key":
        from cryptography.hazmat.primitives.serialization import (
            Encoding,
            NoEncryption,
            PrivateFormat,
        )

        key = ec.generate_private_key(ec.SECP256R1())
        root["key"] = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    elif kind == "certificate":
        root["certificate"] = root["certificate"].replace("M", "N", 1)
    elif kind == "times":
        root["not_after"] += 10
    elif kind == "domain":
        saved["roots"]["trust_domain"] = "other"
    elif kind == "version":
        saved["version"] = 99
    elif kind == "type":
        saved["roots"]["longest"] = "3600"
    return json.dumps(saved).encode()


CONTENT = ["key", "certificate", "times", "domain", "version", "type"]
SHAPES = ["empty", "half", "cut", "zeros", "list", "huge"]


@pytest.mark.parametrize("kind", CONTENT + SHAPES)
def test_a_damaged_file_is_named_and_kept(home: Home, kind: str) -> None:
    """Damage is one clear failure that names the file, and the file is not touched."""
    authority = Authority.open(home, "public")
    path = folder(home) / "authority.json"
    good = path.read_bytes()
    bad = {
        "empty": b"",
        "half": good[: len(good) // 2],
        "cut": good[:-1],
        "zeros": bytes(len(good)),
        "list": b"[]",
        "huge": good + b" " * 300_000,
    }.get(kind) or (damage(good, kind) if kind in CONTENT else b"")
    path.write_bytes(bad)
    for attempt in (lambda: Authority.open(home, "public"), lambda: authority.issue(ORDERS)):
        with pytest.raises(Unavailable) as failed:
            attempt()
        assert str(path) in failed.value.message
        assert "PRIVATE" not in failed.value.message
    assert path.read_bytes() == bad
    path.write_bytes(good)
    authority.issue(ORDERS)


@pytest.mark.parametrize("domain", ["", "Public", "a/b", "..", ".", "../x", "ä", "a b", "a:1"])
def test_wrong_trust_domains_are_refused(home: Home, domain: str) -> None:
    """What is not a trust domain makes no folder."""
    with pytest.raises(Invalid):
        Authority.open(home, domain)
    assert list(home.path.iterdir()) == []


def test_trust_domains_have_roots_of_their_own(home: Home) -> None:
    """Two trust domains in one home share nothing."""
    public, other = Authority.open(home, "public"), Authority.open(home, "other")
    assert public.roots != other.roots
    assert Authority.open(home, "public").roots == public.roots


@pytest.mark.parametrize(
    "identity",
    [
        Identity("other", "default", "orders"),
        Identity("public", "default", "../admin"),
        Identity("public", "default/../admin", "orders"),
        Identity("public", "", "orders"),
        Identity("public/ns/default", "default", "orders"),
    ],
)
def test_wrong_identities_get_no_certificate(authority: Authority, identity: Identity) -> None:
    """No certificate is issued for another trust domain or a name that could be misread."""
    with pytest.raises(Invalid):
        authority.issue(identity)


@pytest.mark.parametrize("lifetime", [0.0, -1.0, 91 * DAY, float("inf"), float("nan")])
def test_lifetimes_have_bounds(authority: Authority, lifetime: float) -> None:
    """A certificate that lives no time, or too long to be forgotten, is refused."""
    with pytest.raises(Invalid):
        authority.issue(ORDERS, lifetime=lifetime)


def test_what_a_certificate_says(authority: Authority) -> None:
    """A leaf is P-256, short-lived, back-dated, says who it is, and serves both sides."""
    now = 2_000_000_000.5
    authority = Authority.open(authority._home, "public", now=now)
    credentials = authority.issue(ORDERS, now=now)
    leaf = x509.load_pem_x509_certificate(credentials.certificate)
    key = leaf.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    assert leaf.not_valid_before_utc.timestamp() == 2_000_000_000 - SLACK
    assert leaf.not_valid_after_utc.timestamp() == credentials.expires == 2_000_003_600
    assert credentials.issued == now
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert [str(name.value) for name in names.value] == ["spiffe://public/ns/default/orders"]
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {
        ExtendedKeyUsageOID.CLIENT_AUTH,
        ExtendedKeyUsageOID.SERVER_AUTH,
    }
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    root = x509.load_pem_x509_certificate(authority.roots)
    assert leaf.issuer == root.subject
    leaf.verify_directly_issued_by(root)


def test_opening_again_changes_nothing(home: Home) -> None:
    """A second open and further certificates of the same lifetime write nothing."""
    Authority.open(home, "public").issue(ORDERS)
    path = folder(home) / "authority.json"
    before = path.stat()
    authority = Authority.open(home, "public")
    authority.issue(ORDERS)
    authority.issue(ORDERS, lifetime=60)
    after = path.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_rotation_is_seen_by_other_processes_at_their_next_certificate(home: Home) -> None:
    """The overlap runs by the clock in every instance that shares the folder."""
    now = time.time()
    ours, theirs = Authority.open(home, "public"), Authority.open(home, "public")
    old = ours.roots
    theirs.issue(ORDERS, lifetime=60, now=now)
    start, over = ours.rotate_root(now=now)
    assert start == pytest.approx(now + 60)
    assert over == pytest.approx(now + 120)
    assert ours.roots.startswith(old)
    assert ours.roots.count(b"BEGIN") == 2
    assert theirs.roots == old
    with pytest.raises(Conflict):
        theirs.rotate_root(now=now + 119)

    def issuer(at: float) -> x509.Name:
        credentials = theirs.issue(ORDERS, lifetime=60, now=at)
        return x509.load_pem_x509_certificate(credentials.certificate).issuer

    first, second = (
        x509.load_pem_x509_certificates(ours.roots)[number].subject for number in (0, 1)
    )
    assert issuer(now + 59) == first
    assert theirs.roots == ours.roots
    assert issuer(now + 61) == second
    assert theirs.roots == ours.roots
    assert issuer(now + 121) == second
    assert old not in theirs.roots
    saved = (folder(home) / "authority.json").read_bytes()
    assert saved.count(b"BEGIN PRIVATE KEY") == 1
    assert (folder(home) / "roots.pem").read_bytes() == theirs.roots


def test_the_overlap_covers_the_longest_certificate(authority: Authority) -> None:
    """One runtime with a long lifetime makes the overlap as long, whoever rotates."""
    now = time.time()
    authority.issue(ORDERS, lifetime=7200, now=now)
    authority.issue(ORDERS, lifetime=60, now=now)
    start, over = Authority.open(authority._home, "public").rotate_root(now=now)
    assert start - now == pytest.approx(7200)
    assert over - now == pytest.approx(14400)


def test_certificates_end_before_their_root(authority: Authority) -> None:
    """During a rotation, a longer lifetime than any before is cut to the end of the old root."""
    now = time.time()
    authority.issue(ORDERS, lifetime=60, now=now)
    _, over = authority.rotate_root(now=now)
    credentials = authority.issue(ORDERS, lifetime=DAY, now=now)
    assert credentials.expires == pytest.approx(over, abs=1)
    assert authority.issue(ORDERS, lifetime=DAY, now=now + 61).expires > now + DAY


@pytest.mark.parametrize("lifetime", [100.0, 2 * ROOT_LIFETIME])
def test_a_root_of_a_silly_lifetime_is_refused(authority: Authority, lifetime: float) -> None:
    """A root too short-lived to be rotated in time, or too long, is refused."""
    authority.issue(ORDERS)
    with pytest.raises(Invalid):
        authority.rotate_root(lifetime=lifetime)


def test_a_root_near_its_end_gets_its_successor_by_itself(authority: Authority) -> None:
    """In the last year of ten the next certificate begins the rotation, with nobody's help."""
    now = time.time()
    authority.issue(ORDERS, now=now)
    later = now + 0.91 * ROOT_LIFETIME
    authority.issue(ORDERS, now=later)
    assert authority.roots.count(b"BEGIN") == 2
    authority.issue(ORDERS, now=later + 7201)
    assert authority.roots.count(b"BEGIN") == 1


def test_after_the_end_of_all_roots_the_next_start_works(home: Home) -> None:
    """A machine that was off for eleven years starts with a new root, and no manual step."""
    long_ago = time.time() - 11 * 365 * DAY
    Authority.open(home, "public", now=long_ago).issue(ORDERS, now=long_ago)
    authority = Authority.open(home, "public")
    checkout = Identity("public", "default", "checkout")
    meet(
        MeshTls(ORDERS, authority.issue(ORDERS), authority.roots),
        MeshTls(checkout, authority.issue(checkout), authority.roots),
    )
    assert authority.roots.count(b"BEGIN") == 1


def test_a_root_that_cannot_be_followed_is_warned_about(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """When no successor can be written, certificates go on and the last month warns."""
    now = time.time()
    authority.issue(ORDERS, now=now)
    lock = folder(authority._home) / "lock"
    lock.unlink()
    lock.mkdir()
    with caplog.at_level(logging.WARNING, "pillion.identity"):
        authority.issue(ORDERS, now=now + ROOT_LIFETIME - 40 * DAY)
        assert "could not be brought up to date" in caplog.text
        assert "no successor" not in caplog.text
        authority.issue(ORDERS, now=now + ROOT_LIFETIME - 20 * DAY)
    assert "ends in 20.0 days and has no successor yet" in caplog.text
    with pytest.raises(Unavailable):
        authority.issue(ORDERS, now=now + ROOT_LIFETIME + 1)


def test_short_lived_roots_are_no_news(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """A root that was made to live for a week warns about nothing, and is followed in time."""
    now = time.time()
    _, over = authority.rotate_root(now=now, lifetime=7 * DAY)
    with caplog.at_level(logging.WARNING, "pillion.identity"):
        authority.issue(ORDERS, now=over + 1)
        authority.issue(ORDERS, now=now + 6.5 * DAY)
    assert authority.roots.count(b"BEGIN") == 2
    assert caplog.text == ""


def test_an_emptied_home_gets_its_roots_back(authority: Authority) -> None:
    """A runtime whose authority file was deleted puts it back and breaks nobody's trust."""
    authority.issue(ORDERS)
    before = authority.roots
    shutil.rmtree(authority._home.path / "authority")
    authority.issue(ORDERS)
    assert authority.roots == before
    assert Authority.open(authority._home, "public").roots == before


def test_leftovers_of_killed_writers_are_swept(authority: Authority) -> None:
    """The next change of the authority deletes temporary files that hold keys."""
    left = folder(authority._home) / ".authority.json.0123456789ab.tmp"
    left.write_bytes(b"half a key")
    authority.issue(ORDERS)
    assert not left.exists()
