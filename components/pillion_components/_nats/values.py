"""The values in a bucket: read and written as raw messages.

The client library's own key-value interface takes a key that has expired for one that is there, so
that it can neither be read nor made again; here a marker of the server is a deletion.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from pillion.errors import Conflict, Failure, Invalid, Unavailable, Unsupported
from pillion.kinds.state import Put, Write
from pillion_components._nats.bucket import (
    MESSAGE_MISSING,
    STREAM_MISSING,
    WRONG_SEQUENCE,
    Bucket,
    error_code,
    failure,
    found_or_made,
    parsed,
)
from pillion_components._nats.client import Client, Msg, Request, status
from pillion_components._nats.keys import LONGEST, subject_of
from pillion_components._nats.messages import Entry, entry_in, entry_of

_AT_ONCE = 1024
"""Requests of one operation that are under way at the same time."""
_TRIES = 16
"""How often a key is looked at anew when others write it at the same moment."""
_MARKER_TTL = "3600s"
_LARGEST_SEQUENCE = 2**64
_EXPECTED = "Nats-Expected-Last-Subject-Sequence"


class Values:
    """The values of one bucket, which is made when it is not there.

    Args:
        client: the connection.
        name: of the bucket.
        replicas: servers that keep each value, when the bucket is made.
    """

    def __init__(self, client: Client, name: str, replicas: int) -> None:
        self._client = client
        self._name = name
        self._replicas = replicas
        self._bucket: Bucket | None = None

    def subject(self, key: str) -> str:
        """Return the subject of a key.

        Raises:
            Invalid: the key is too long.
        """
        subject = subject_of(key)
        if len(subject) > LONGEST:
            raise Invalid(f"the key {key[:40]}... is too long; NATS takes {LONGEST} signs")
        return f"$KV.{self._name}.{subject}"

    def forget(self) -> None:
        """Look at the bucket anew before the next operation."""
        self._bucket = None

    async def opened(self, until: float) -> Bucket:
        """Return what is known of the bucket.

        Raises:
            Failure: it is neither there nor can it be made.
        """
        if self._bucket is None:
            self._bucket = await found_or_made(self._client, self._name, self._replicas, until)
        return self._bucket

    async def entries(
        self, keys: Sequence[str], until: float, *, strong: bool = True
    ) -> list[Entry | None]:
        """Return the last message of each key; the requests go out together.

        Raises:
            Failure: not all of them could be read in time.
        """
        bucket = await self.opened(until)
        requests = [self._look(bucket, self.subject(key), strong=strong) for key in keys]
        entries = []
        for begin in range(0, len(requests), _AT_ONCE):
            for answer in await self._client.ask_all(requests[begin : begin + _AT_ONCE], until):
                if isinstance(answer, Failure):
                    raise answer
                entries.append(self._entry(bucket, answer))
        return entries

    async def write(self, change: Write, until: float) -> None:
        """Make one change.

        Raises:
            Failure: as the kind says.
        """
        bucket = self._bucket or await self.opened(until)
        answer = await self._client.ask(self._request(bucket, change), until)
        await self._settle(bucket, change, answer, until)

    async def entry(self, key: str, until: float) -> Entry | None:
        """Return the last message of a key.

        Raises:
            Failure: it could not be read in time.
        """
        bucket = self._bucket or await self.opened(until)
        request = self._look(bucket, self.subject(key), strong=True)
        return self._entry(bucket, await self._client.ask(request, until))

    async def write_many(self, changes: Sequence[Write], until: float) -> list[Exception | None]:
        """Make changes; the requests go out together; return what became of each."""
        results: list[Exception | None] = [None] * len(changes)
        for batch in _batches(changes):
            requests: dict[int, Request] = {}
            try:
                bucket = await self.opened(until)
            except Failure as problem:
                results[batch.start :] = [problem] * (len(changes) - batch.start)
                break
            for at in batch:
                try:
                    requests[at] = self._request(bucket, changes[at])
                except Failure as problem:
                    results[at] = problem
            answers = await self._asked(list(requests.values()), until)
            for at, answer in zip(requests, answers, strict=True):
                try:
                    await self._settle(bucket, changes[at], answer, until)
                except Failure as problem:
                    results[at] = problem
        return results

    async def _asked(self, requests: Sequence[Request], until: float) -> list[Msg | Failure]:
        if not requests:
            return []
        try:
            return await self._client.ask_all(requests, until)
        except Failure as problem:
            return [problem] * len(requests)

    def _look(self, bucket: Bucket, subject: str, *, strong: bool) -> Request:
        # Any replica answers direct reads; of a single one that is the one that took the writes.
        if bucket.direct and (bucket.replicas == 1 or not strong):
            return Request(f"$JS.API.DIRECT.GET.{bucket.stream}.{subject}")
        asked = json.dumps({"last_by_subj": subject}).encode()
        return Request(f"$JS.API.STREAM.MSG.GET.{bucket.stream}", asked)

    def _entry(self, bucket: Bucket, answer: Msg) -> Entry | None:
        headers = answer.headers or {}
        if status(answer) == "404":
            return None
        if "Nats-Sequence" in headers:
            return entry_of(
                headers["Nats-Sequence"],
                answer.data,
                headers,
                headers["Nats-Time-Stamp"],
                bucket.max_age,
            )
        reply = self._parsed(answer)
        if error_code(reply) == MESSAGE_MISSING:
            return None
        if "error" in reply:
            raise failure(self._client.place, reply)
        return entry_in(reply["message"], bucket.max_age)

    def _parsed(self, answer: Msg) -> Any:
        try:
            reply = parsed(self._client.place, answer)
        except Unavailable:
            self._bucket = None  # it may be gone; the next operation looks
            raise
        if error_code(reply) == STREAM_MISSING:
            self._bucket = None
        return reply

    def _request(self, bucket: Bucket, change: Write, expected: int | None = None) -> Request:
        """Return the message that makes a change, on the condition of a last message."""
        headers: dict[str, str] = {}
        if expected is not None:
            headers[_EXPECTED] = str(expected)
        elif isinstance(change, Put) and change.create_only:
            headers[_EXPECTED] = "0"
        elif change.etag is not None:
            headers[_EXPECTED] = _sequence(change.etag)
        subject = self.subject(change.key)
        if not isinstance(change, Put):
            headers["KV-Operation"] = "DEL"
            if bucket.expiring:
                headers["Nats-TTL"] = _MARKER_TTL
            return Request(subject, b"", headers)
        if change.ttl is not None:
            if not bucket.expiring:
                raise Unsupported(
                    f"{self._client.place} lets no single value expire in the bucket "
                    f"{self._name}; that needs NATS 2.11 or newer and a bucket made "
                    "with allow_msg_ttl"
                )
            headers["Nats-TTL"] = f"{change.ttl}s"
        return Request(subject, change.value, headers or None)

    async def _settle(
        self, bucket: Bucket, change: Write, answer: Msg | Failure, until: float
    ) -> None:
        """Find out what became of a change; a new key may have to follow a deleted one."""
        creating = isinstance(change, Put) and change.create_only
        for _ in range(_TRIES):
            if isinstance(answer, Failure):
                raise answer
            reply = self._parsed(answer)
            if "error" not in reply:
                return
            if error_code(reply) not in WRONG_SEQUENCE:
                raise failure(self._client.place, reply)
            if not creating:
                break
            entry = await self.entry(change.key, until)
            if entry is not None and not entry.gone:
                break
            request = self._request(bucket, change, entry.sequence if entry else 0)
            (answer,) = await self._asked((request,), until)
        raise Conflict(f"key {change.key}: the value is not the one that the entity tag stands for")


def _batches(changes: Sequence[Write]) -> Iterator[range]:
    """Yield what may go out together: changes of the same key follow one another."""
    begin = 0
    keys: set[str] = set()
    for at, change in enumerate(changes):
        if change.key in keys or len(keys) == _AT_ONCE:
            yield range(begin, at)
            begin = at
            keys.clear()
        keys.add(change.key)
    yield range(begin, len(changes))


def _sequence(etag: str) -> str:
    number = int(etag) if etag.isascii() and etag.isdecimal() and len(etag) <= 20 else 0
    if not 0 < number < _LARGEST_SEQUENCE:
        raise Invalid(
            f"{etag[:60]!r} is no entity tag of this store; send the one that a get returned",
            reason="etag-invalid",
        )
    return str(number)


__all__ = ["Values"]
