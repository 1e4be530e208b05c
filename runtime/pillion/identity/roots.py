"""The roots of one trust domain over time: which is trusted, which issues, when one follows.

Plain decisions that are told the time. A rotation is decided once, as times written beside the
roots, and from then on every runtime reads off the clock what holds:

* ``issues_from``: until then the new root is only trusted. The runtimes learn of it when they
  renew their certificates, which all of them do within the longest lifetime issued so far.
* ``trusted_until`` of the old root: one longest lifetime after its successor took over, when
  nothing that it signed is valid any more.

All times are seconds since the epoch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

SUCCESSION = 0.1
"""Share of a root's life that is left when its successor is made, in good time for the overlap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """One root.

    Attributes:
        certificate: PEM.
        key: its private key, PEM.
        not_before: start of the certificate's validity.
        not_after: its end.
        issues_from: certificates are issued with the latest root whose time has come.
        trusted_until: None while no successor is decided.
    """

    certificate: str
    key: str
    not_before: float
    not_after: float
    issues_from: float = 0.0
    trusted_until: float | None = None

    def __repr__(self) -> str:
        return f"Root(not_after={self.not_after}, issues_from={self.issues_from})"

    def usable(self, now: float) -> bool:
        """Tell whether the certificate is valid and trusted."""
        return self.not_before <= now < self.end

    @property
    def end(self) -> float:
        """When it is no longer trusted."""
        trusted_until = math.inf if self.trusted_until is None else self.trusted_until
        return min(self.not_after, trusted_until)


@dataclass(frozen=True, slots=True, kw_only=True)
class RootSet:
    """All roots of a trust domain.

    Attributes:
        trust_domain: whose roots they are.
        roots: oldest first.
        longest: seconds; the longest lifetime of a certificate issued so far.
    """

    trust_domain: str
    roots: tuple[Root, ...]
    longest: float = 0.0

    def bundle(self, now: float) -> bytes:
        """Return the trusted certificates, PEM."""
        trusted = [root.certificate for root in self.roots if now < root.end]
        return "".join(trusted).encode()

    def issuer(self, now: float) -> Root | None:
        """Return the root that issues, or None when none may."""
        ready = [root for root in self.roots if root.issues_from <= now and root.usable(now)]
        return max(ready, key=lambda root: root.issues_from, default=None)

    def rotating(self, now: float) -> float | None:
        """Return when the rotation under way will be over, or None when there is none."""
        return max(
            (root.end for root in self.roots if root.trusted_until is not None and now < root.end),
            default=None,
        )

    def needs_successor(self, now: float) -> bool:
        """Tell whether the newest root nears its end, or none can issue."""
        if self.issuer(now) is None:
            return True
        newest = self.roots[-1]
        if newest.issues_from > now:
            return False
        notice = max(SUCCESSION * (newest.not_after - newest.not_before), 2 * self.longest)
        return newest.not_after - now < notice

    def followed_by(self, root: Root, now: float) -> RootSet:
        """Begin the rotation to ``root``; with no issuer left to overlap, it issues at once."""
        if self.issuer(now) is None:
            # Not from now: another process may have read the clock a moment earlier.
            start, until = root.not_before, now + self.longest
        else:
            start, until = now + self.longest, now + 2 * self.longest
        old = tuple(replace(each, trusted_until=min(each.end, until)) for each in self.roots)
        return replace(self, roots=(*old, replace(root, issues_from=start)))

    def pruned(self, now: float) -> RootSet:
        """Forget the roots that are not trusted any more, and their keys with them."""
        return replace(self, roots=tuple(root for root in self.roots if now < root.end))
