"""The local authority: the roots of a trust domain below ``$PILLION_HOME``, and what they sign.

One folder per trust domain, ``<home>/authority/<trust-domain>/``:

* ``authority.json``: the roots with their keys and times (see ``roots.py``), the one truth,
  replaced whole under a lock. There is no second file that could disagree with it after a crash.
* ``roots.pem``: the trusted certificates, for other programs; never read here.
* ``lock``.
"""

from __future__ import annotations

import logging
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from pillion import files
from pillion.call import Identity
from pillion.errors import Conflict, Failure, Invalid, NotFound, Unavailable
from pillion.home import Home
from pillion.identity.roots import SUCCESSION, Root, RootSet
from pillion.identity.spiffe import parse_id
from pillion.identity.tls import Credentials

log = logging.getLogger("pillion.identity")

DAY = 86400.0

LEAF_LIFETIME = 3600.0
"""Seconds that a runtime's certificate is valid."""

MAX_LEAF_LIFETIME = 90 * DAY
"""Seconds; certificates are short-lived because nothing revokes them."""

ROOT_LIFETIME = 3650 * DAY
"""Seconds that a root is valid."""

WARNING = 30 * DAY
"""Seconds before the end of a root without successor at which every renewal logs a warning."""

_FILE_LIMIT = 256 * 1024
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Saved:
    """The content of ``authority.json``."""

    version: int
    roots: RootSet


class Authority:
    """Issues the certificates of one trust domain; every method blocks for the disk.

    An instance serves one thread at a time; any number of processes share the folder.

    Attributes:
        trust_domain: whose authority it is.
        roots: the trusted certificates as of the last :meth:`issue`, PEM.
    """

    __slots__ = ("_folder", "_home", "_set", "roots", "trust_domain")

    def __init__(self, home: Home, folder: Path, roots: RootSet, now: float) -> None:
        self._home = home
        self._folder = folder
        self._set = roots
        self.trust_domain = roots.trust_domain
        self.roots = roots.bundle(now)

    @classmethod
    def open(cls, home: Home, trust_domain: str, *, now: float | None = None) -> Authority:
        """Open the authority of ``trust_domain``, created when the home has none.

        Any number of processes may do so at once: they end up with one root.

        Args:
            home: where it lives.
            trust_domain: lower-case letters, digits, ``.``, ``-`` and ``_``.
            now: seconds since the epoch; None for the clock.

        Raises:
            Invalid: the trust domain is not one.
            Unavailable: the file is damaged or cannot be written.
        """
        parse_id(f"spiffe://{trust_domain}/ns/default/app")
        now = time.time() if now is None else now
        authority = cls(
            home,
            home.directory("authority", trust_domain),
            RootSet(trust_domain=trust_domain, roots=()),
            now,
        )
        authority._refresh(now, 0.0)
        return authority

    def issue(
        self, identity: Identity, *, lifetime: float = LEAF_LIFETIME, now: float | None = None
    ) -> Credentials:
        """Issue a certificate, and read :attr:`roots` anew.

        Args:
            identity: whose it is.
            lifetime: seconds; the certificate ends earlier when its root does.
            now: seconds since the epoch; None for the clock.

        Raises:
            Invalid: not an identity of this trust domain, or a lifetime out of bounds.
            Unavailable: the authority's file is damaged or cannot be written.
        """
        from pillion.identity.certificates import new_leaf

        if parse_id(identity.uri) != identity or identity.trust_domain != self.trust_domain:
            raise Invalid(f"{identity.uri} is not an identity of trust domain {self.trust_domain}")
        if not 1.0 <= lifetime <= MAX_LEAF_LIFETIME:
            raise Invalid(
                f"a certificate's lifetime is 1 to {MAX_LEAF_LIFETIME:.0f} seconds, "
                f"not {lifetime:g}"
            )
        now = time.time() if now is None else now
        root = self._refresh(now, lifetime)
        self._warn(now)
        return new_leaf(identity, root, now=now, lifetime=min(lifetime, root.end - now))

    def rotate_root(
        self, *, lifetime: float = ROOT_LIFETIME, now: float | None = None
    ) -> tuple[float, float]:
        """Begin to replace the root, without a restart and without a refused connection.

        The new root is trusted from now on, issues once every runtime has had to renew, and the
        old one is forgotten when nothing it signed is valid any more.

        Args:
            lifetime: of the new root, in seconds.
            now: seconds since the epoch; None for the clock.

        Returns:
            When the new root begins to issue and when the old one is forgotten, in seconds since
            the epoch.

        Raises:
            Conflict: a rotation is under way.
            Invalid: the lifetime is too short to rotate in time.
            Unavailable: the authority's file is damaged or cannot be written.
        """
        from pillion.identity.certificates import new_root

        now = time.time() if now is None else now
        self._refresh(now, 0.0)
        with self._locked():
            current = self._read()
            over = current.rotating(now)
            if over is not None:
                raise Conflict(
                    f"the root of {self.trust_domain} is being rotated already, "
                    f"for another {over - now:.0f} seconds"
                )
            if lifetime < 4 * current.longest or lifetime > ROOT_LIFETIME:
                raise Invalid(
                    f"a root's lifetime is {4 * current.longest:.0f} to {ROOT_LIFETIME:.0f} "
                    f"seconds here, not {lifetime:g}"
                )
            root = new_root(self.trust_domain, now=now, lifetime=lifetime)
            self._write(current.followed_by(root, now).pruned(now), now)
        log.info("a new root of trust domain %s is trusted from now on", self.trust_domain)
        return self._set.roots[-1].issues_from, self._set.rotating(now) or now

    def _refresh(self, now: float, lifetime: float) -> Root:
        """Read the roots, bring them up to date when it is time, and return the one that issues."""
        try:
            self._adopt(self._read(), now)
        except NotFound:
            self._maintain(now, lifetime)
        else:
            if _wants(self._set, now, lifetime):
                self._maintain(now, lifetime)
        issuer = self._set.issuer(now)
        if issuer is None:
            raise Unavailable(f"no root of trust domain {self.trust_domain} is valid")
        return issuer

    def _maintain(self, now: float, lifetime: float) -> None:
        try:
            with self._locked():
                try:
                    self._adopt(self._read(), now)
                except NotFound:
                    # A home emptied under a running runtime gets its roots back from there.
                    self._write(self._updated(now, lifetime), now)
                else:
                    if _wants(self._set, now, lifetime):
                        self._write(self._updated(now, lifetime), now)
        except Failure as failure:
            # Tidying and a successor can wait for the next renewal; the rest cannot.
            if self._set.issuer(now) is None or self._set.longest < lifetime:
                raise
            log.warning("the authority could not be brought up to date: %s", failure)

    def _updated(self, now: float, lifetime: float) -> RootSet:
        from pillion.identity.certificates import new_root

        roots = self._set
        if roots.needs_successor(now):
            root = new_root(self.trust_domain, now=now, lifetime=ROOT_LIFETIME)
            roots = roots.followed_by(root, now)
        return replace(roots.pruned(now), longest=max(roots.longest, lifetime))

    def _warn(self, now: float) -> None:
        newest = max(self._set.roots, key=lambda root: root.not_after)
        left = newest.not_after - now
        # Roots made to live for days only are no news; a missed succession is.
        if left < min(WARNING, SUCCESSION / 2 * (newest.not_after - newest.not_before)):
            log.warning(
                "the last root of trust domain %s ends in %.1f days and has no successor yet",
                self.trust_domain,
                left / DAY,
            )

    @property
    def _file(self) -> Path:
        return self._folder / "authority.json"

    def _locked(self) -> AbstractContextManager[None]:
        self._home.directory("authority", self.trust_domain)  # it may have been deleted since
        return self._home.locked(self._folder / "lock")

    def _read(self) -> RootSet:
        """Read the file.

        Raises:
            NotFound: there is none.
            Unavailable: it is damaged.
        """
        import msgspec

        from pillion.identity.certificates import check_root

        try:
            data = self._home.read_private(self._file, _FILE_LIMIT)
            saved = msgspec.json.decode(data, type=_Saved)
            _check_saved(saved, self.trust_domain)
            for root in saved.roots.roots:
                check_root(root, self.trust_domain)
        except (Invalid, msgspec.MsgspecError, ValueError) as error:
            raise Unavailable(
                f"{self._file} is damaged ({error}): put back a copy of it, or delete it and "
                "restart all runtimes of this home, which then get a new root"
            ) from error
        return saved.roots

    def _write(self, roots: RootSet, now: float) -> None:
        """Replace the file; the lock is held."""
        import msgspec

        saved = msgspec.json.encode(_Saved(version=_VERSION, roots=roots))
        self._home.write_private(self._file, saved)
        self._adopt(roots, now)
        self._home.write_private(self._folder / "roots.pem", self.roots)
        files.sweep(self._folder, older_than=0.0)

    def _adopt(self, roots: RootSet, now: float) -> None:
        self._set = roots
        self.roots = roots.bundle(now)


def _wants(roots: RootSet, now: float, lifetime: float) -> bool:
    """Tell whether the file must change before a certificate of ``lifetime`` seconds is issued."""
    return (
        roots.needs_successor(now)
        or roots.longest < lifetime
        or any(now >= r.end for r in roots.roots)
    )


def _check_saved(saved: _Saved, trust_domain: str) -> None:
    if saved.version != _VERSION:
        raise ValueError(f"its version is {saved.version} and not {_VERSION}")
    if saved.roots.trust_domain != trust_domain:
        raise ValueError(f"its trust domain is not {trust_domain}")
