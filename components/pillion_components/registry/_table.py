"""The rows of the embedded registry and the few statements that move them.

Every visible change takes the next *revision*, and a row holds the revision of its last change, so
``revision > seen`` is all that a watcher has to read. An instance that left stays behind as a
tombstone for a minute. Renewals move only ``expires``, which nobody is told about.

``expires`` is on the machine's monotonic clock, which no one can set and which starts anew with
each boot: a row of another boot is void.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any

from pillion.kinds.registry import Instance
from pillion.node import boot_id, node_id, process_gone
from pillion_components._sqlite import Row, Schema, Transaction

TOMBSTONE_AGE = 60.0
"""Seconds that a tombstone is kept; a watcher further behind starts with a new Snapshot."""

_SWEEP = 1000
"""Expired rows removed in one transaction."""

SCHEMA = Schema(
    what="registry",
    application_id=0x50494C52,
    # A power cut ends every registered process too, so there is nothing that a sync could save.
    synchronous="NORMAL",
    rebuildable=True,
    steps=(
        (
            """CREATE TABLE state (
                one INTEGER PRIMARY KEY CHECK (one = 1),
                revision INTEGER NOT NULL,
                purged INTEGER NOT NULL
            )""",
            "INSERT INTO state VALUES (1, 0, 0)",
            """CREATE TABLE instance (
                id TEXT PRIMARY KEY,
                app_id TEXT NOT NULL,
                namespace TEXT NOT NULL,
                host TEXT NOT NULL,
                port INTEGER NOT NULL,
                labels TEXT NOT NULL,
                protocol TEXT NOT NULL,
                healthy INTEGER NOT NULL,
                pid INTEGER NOT NULL,
                node TEXT NOT NULL,
                since REAL NOT NULL,
                boot TEXT NOT NULL,
                lease REAL NOT NULL,
                expires REAL NOT NULL,
                gone INTEGER NOT NULL,
                revision INTEGER NOT NULL
            )""",
            "CREATE INDEX change ON instance (revision, namespace, app_id)",
            "CREATE INDEX app ON instance (namespace, app_id, revision)",
            "CREATE INDEX term ON instance (gone, expires)",
        ),
    ),
)

_COLUMNS = "id, app_id, namespace, host, port, labels, protocol, healthy, pid, node, since"

READ_STATE = "SELECT revision, purged FROM state"
READ_APPS = (
    # Told by name: the planner would walk the whole index of apps to save a sort.
    "SELECT DISTINCT namespace, app_id FROM instance INDEXED BY change WHERE revision > ?"
)
READ_CHANGES = (
    f"SELECT gone, revision, expires, {_COLUMNS} FROM instance "  # noqa: S608 - a constant
    "WHERE namespace = ? AND app_id = ? AND revision > ? ORDER BY revision LIMIT ?"
)
READ_LIVE = (
    f"SELECT revision, {_COLUMNS} FROM instance "  # noqa: S608 - a constant
    "WHERE gone = 0 AND expires > ? AND revision > ? AND namespace = coalesce(?, namespace) "
    "ORDER BY revision LIMIT ?"
)
READ_EXPIRED = (
    "SELECT id, revision, namespace, app_id FROM instance WHERE gone = 0 AND expires <= ? LIMIT ?"
)
READ_NEXT_EXPIRY = "SELECT min(expires) FROM instance WHERE gone = 0 AND expires > ?"


def instance_of(columns: Row) -> Instance:
    """Build the instance from a row's own columns, ``id`` to ``since``."""
    identifier, app_id, namespace, host, port, labels, protocol, healthy, pid, node, since = columns
    return Instance(
        id=identifier,
        app_id=app_id,
        namespace=namespace,
        host=host,
        port=port,
        labels=json.loads(labels),
        protocol=protocol,
        healthy=bool(healthy),
        pid=pid,
        node=node,
        since=since,
    )


def renew(transaction: Transaction, identifier: str, revision: int, lease: float) -> bool:
    """Extend the lease; False when the row is not what was written at ``revision`` any more."""
    now = time.monotonic()
    cursor = transaction.execute(
        "UPDATE instance SET expires = ? WHERE id = ? AND revision = ? AND gone = 0 "
        "AND expires > ? AND boot = ?",
        (now + lease, identifier, revision, now, boot_id()),
    )
    return cursor.rowcount == 1


def put(transaction: Transaction, instance: Instance, lease: float) -> int:
    """Write the whole row and return its revision."""
    revision = _next_revision(transaction)
    values: tuple[Any, ...] = (
        instance.id,
        instance.app_id,
        instance.namespace,
        instance.host,
        instance.port,
        json.dumps(dict(instance.labels)),
        instance.protocol,
        instance.healthy,
        instance.pid,
        instance.node,
        instance.since,
        boot_id(),
        lease,
        time.monotonic() + lease,
        0,
        revision,
    )
    marks = ", ".join("?" * len(values))
    transaction.execute(
        f"INSERT OR REPLACE INTO instance VALUES ({marks})",  # noqa: S608 - question marks
        values,
    )
    return revision


def remove(transaction: Transaction, identifier: str) -> bool:
    """Turn a live row into a tombstone; False when there was none."""
    row = transaction.execute(
        "SELECT 1 FROM instance WHERE id = ? AND gone = 0", (identifier,)
    ).fetchone()
    if row is None:
        return False
    _bury(transaction, identifier)
    _purge(transaction)
    return True


def settle(transaction: Transaction, doubtful: Iterable[tuple[str, int]]) -> bool:
    """Decide about rows that were seen expired, and remove every other one that is.

    A row that was renewed between the look and now takes a new revision instead, because watchers
    have already told that it is gone. Returns True when anything changed.
    """
    now = time.monotonic()
    changed = False
    for identifier, revision in doubtful:
        row = transaction.execute(
            "SELECT expires FROM instance WHERE id = ? AND revision = ? AND gone = 0",
            (identifier, revision),
        ).fetchone()
        if row is not None and row[0] > now:
            transaction.execute(
                "UPDATE instance SET revision = ? WHERE id = ?",
                (_next_revision(transaction), identifier),
            )
            changed = True
    return sweep(transaction) or changed


def sweep(transaction: Transaction) -> bool:
    """Remove rows whose lease ran out; True when there were any."""
    expired = transaction.execute(READ_EXPIRED, (time.monotonic(), _SWEEP)).fetchall()
    for identifier, *_ in expired:
        _bury(transaction, identifier)
    if expired:
        _purge(transaction)
    return bool(expired)


def tidy(transaction: Transaction) -> bool:
    """Remove what a crash or a reboot left behind; True when a live row of this boot went.

    Rows of another boot, or with more time than their lease, were seen by nobody alive and leave
    no tombstone.
    """
    transaction.execute(
        "DELETE FROM instance WHERE boot <> ? OR expires > ? + lease", (boot_id(), time.monotonic())
    )
    processes = transaction.execute(
        "SELECT DISTINCT pid FROM instance WHERE gone = 0 AND node = ? LIMIT ?",
        (node_id(), _SWEEP),
    ).fetchall()
    dead = [pid for (pid,) in processes if process_gone(pid)]
    for pid in dead:
        for (identifier,) in transaction.execute(
            "SELECT id FROM instance WHERE gone = 0 AND node = ? AND pid = ?", (node_id(), pid)
        ).fetchall():
            _bury(transaction, identifier)
    return sweep(transaction) or bool(dead)


def _bury(transaction: Transaction, identifier: str) -> None:
    transaction.execute(
        "UPDATE instance SET gone = 1, expires = ?, revision = ? WHERE id = ?",
        (time.monotonic(), _next_revision(transaction), identifier),
    )


def _purge(transaction: Transaction) -> None:
    horizon = time.monotonic() - TOMBSTONE_AGE
    last = transaction.execute(
        "SELECT max(revision) FROM instance WHERE gone = 1 AND expires < ?", (horizon,)
    ).fetchone()[0]
    if last is not None:
        transaction.execute("DELETE FROM instance WHERE gone = 1 AND expires < ?", (horizon,))
        transaction.execute("UPDATE state SET purged = max(purged, ?)", (last,))


def _next_revision(transaction: Transaction) -> int:
    transaction.execute("UPDATE state SET revision = revision + 1")
    revision: int = transaction.execute("SELECT revision FROM state").fetchone()[0]
    return revision
