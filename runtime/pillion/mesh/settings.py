"""How the mesh transport behaves; the defaults are what a runtime uses."""

from __future__ import annotations

from dataclasses import dataclass, field

from pillion.wire.mesh_session import Limits

RECEIVE = "invocation.receive"
"""The one operation a runtime takes from another today."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Times are seconds, sizes bytes.

    Attributes:
        limits: what this side takes and announces.
        chunk: body in one Data frame; smaller ones let streams take turns more often.
        inline: bodies up to this size travel in the frame of their head.
        handshake_timeout: from the TCP connection to the peer's Hello.
        ping_interval: silence after which the peer is asked whether it lives.
        ping_timeout: silence after that question which ends the connection.
        idle_timeout: time without a stream after which the caller closes a connection.
        close_timeout: time for TLS and TCP to say goodbye.
        write_high: unsent bytes above which senders wait for their turn.
        write_limit: unsent bytes above which a peer that does not read is closed.
        max_connections: inbound connections at one time.
        max_handshakes: inbound connections in their handshake at one time.
        connections_per_peer: outbound connections to one instance.
        grow_at: streams on every connection that make the caller open one more.
        max_waiting: calls that may wait for a connection to one instance.
        connect_timeout: time for one attempt to connect, handshake included.
        backoff: pause after the first failed attempt; doubles with each further one.
        max_backoff: the longest such pause.
    """

    limits: Limits = field(default_factory=Limits)
    chunk: int = 16 * 1024
    inline: int = 64 * 1024
    handshake_timeout: float = 5.0
    ping_interval: float = 10.0
    ping_timeout: float = 5.0
    idle_timeout: float = 300.0
    close_timeout: float = 1.0
    write_high: int = 128 * 1024
    write_limit: int = 4 * 1024 * 1024
    max_connections: int = 4096
    max_handshakes: int = 128
    connections_per_peer: int = 4
    grow_at: int = 64
    max_waiting: int = 1024
    connect_timeout: float = 5.0
    backoff: float = 0.1
    max_backoff: float = 10.0


DEFAULTS = Settings()
