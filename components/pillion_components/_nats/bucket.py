"""A bucket: a stream that keeps the last message of every key.

It is laid out as NATS' own key-value clients lay it out, so those can read it too. What a server
really configured is read back: an older one leaves out what it does not know without a word.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pillion.errors import Failure, Invalid, NotAllowed, Unavailable, Unsupported
from pillion_components._nats.client import LARGE, Client, Msg, Request, status

STREAM_MISSING = 10059
MESSAGE_MISSING = 10037
WRONG_SEQUENCE = (10071, 10164)
_TOO_LARGE = 10054
_NO_TTL = (10165, 10166)
_MARKERS_FOR = 60 * 60 * 10**9
"""Nanoseconds for which the server remembers that a key has expired."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """What is known of a bucket.

    Attributes:
        stream: its name.
        direct: True when any replica may answer reads.
        replicas: how many there are.
        expiring: True when single keys can expire.
        max_age: seconds after which every value expires, 0 for never.
    """

    stream: str
    direct: bool
    replicas: int
    expiring: bool
    max_age: float


async def found_or_made(client: Client, name: str, replicas: int, until: float) -> Bucket:
    """Find the bucket ``name``, or make it.

    Raises:
        Failure: the server cannot be reached, has no JetStream, or does not let it be made.
    """
    stream = f"KV_{name}"
    reply = await _api(client, f"STREAM.INFO.{stream}", None, until)
    if error_code(reply) == STREAM_MISSING:
        config: dict[str, Any] = {
            "name": stream,
            "subjects": [f"$KV.{name}.>"],
            "max_msgs_per_subject": 1,
            "discard": "new",
            "storage": "file",
            "num_replicas": replicas,
            "allow_direct": True,
            "allow_rollup_hdrs": True,
            "deny_delete": True,
        }
        if await client.version() >= (2, 11):
            config |= {"allow_msg_ttl": True, "subject_delete_marker_ttl": _MARKERS_FOR}
        reply = await _api(client, f"STREAM.CREATE.{stream}", config, until)
    if "error" in reply:
        raise failure(client.place, reply)
    actual = reply["config"]
    return Bucket(
        stream,
        bool(actual.get("allow_direct")),
        int(actual.get("num_replicas", 1)),
        bool(actual.get("allow_msg_ttl")),
        int(actual.get("max_age", 0)) / 1e9,
    )


async def api(client: Client, call: str, body: dict[str, Any] | None, until: float) -> Any:
    """Ask JetStream to do something and return its answer.

    Raises:
        Failure: it cannot be asked, or refuses.
    """
    reply = await _api(client, call, body, until)
    if "error" in reply:
        raise failure(client.place, reply)
    return reply


async def _api(client: Client, call: str, body: dict[str, Any] | None, until: float) -> Any:
    payload = json.dumps(body).encode() if body is not None else b""
    return parsed(client.place, await client.ask(Request(f"$JS.API.{call}", payload), until))


def parsed(place: str, message: Msg) -> Any:
    """Return the JSON of an answer.

    Raises:
        Unavailable: nobody was there to answer.
    """
    if status(message) == "503":
        raise Unavailable(
            f"{place} does not serve the bucket: JetStream is off, starting or without a leader",
            reason="no-responders",
            reached=False,
        )
    try:
        return json.loads(message.data)
    except ValueError:
        raise Unavailable(f"{place} gave an answer that cannot be read") from None


def error_code(reply: Any) -> int:
    """Return JetStream's number of what is wrong, 0 when nothing is."""
    return int(reply.get("error", {}).get("err_code", 0))


def failure(place: str, reply: Any) -> Failure:
    """Return what an answer with an error means."""
    code, words = error_code(reply), str(reply["error"].get("description", ""))[:200]
    if code == _TOO_LARGE:
        return Invalid(f"{place} takes no value of this size: {words}", reason=LARGE)
    if code in _NO_TTL:
        return Unsupported(f"{place} lets no single value expire: {words}")
    if "maximum" in words or "resources" in words:
        return Unavailable(f"{place} has no room: {words}", reason="no-space")
    if "permission" in words.lower():
        return NotAllowed(f"{place} refuses: {words}")
    return Unavailable(f"{place}: {words}")


__all__ = [
    "MESSAGE_MISSING",
    "STREAM_MISSING",
    "WRONG_SEQUENCE",
    "Bucket",
    "api",
    "error_code",
    "failure",
    "found_or_made",
    "parsed",
]
