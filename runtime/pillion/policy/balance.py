"""Which instance takes the next call: a set of endpoints and the pickers over it.

Everything here costs the same for ten instances and for ten thousand: adding, removing and
picking one touch no other.

The default is the power of two choices (Mitzenmacher 2001) over peak-EWMA latency (Finagle's
``p2c_peak_ewma``): two endpoints at random, the one with the lower score takes the call. The score
is the latency times the calls it would then have; the latency jumps up with a slow answer, sinks
slowly, and sinks while nothing is heard, so an endpoint that was bad is tried again. A failure
counts as at least :data:`PENALTY` seconds, because errors that come back fast would look
attractive.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from math import exp
from typing import Protocol

from pillion.kinds.registry import Change, Gone, Instance, Put, Snapshot

TAU = 5.0
"""Seconds in which what is known of a latency sinks to 1/e."""

PENALTY = 1.0
"""Seconds that a failed call counts for, at least."""

PROBE_AFTER = 1.0
"""Seconds after which a suspect is picked like the others again."""

_UNKNOWN = 1e6
"""Score of an endpoint nothing is known of while its first call is out: one probe at a time."""

_FORGOTTEN = 5.0 * TAU
"""Seconds of silence after which an endpoint counts as unknown."""


class Source(Protocol):
    """What :class:`random.Random` offers."""

    def random(self) -> float:
        """Return a number in [0, 1)."""


class Endpoint:
    """One instance as the balancer sees it.

    Attributes:
        instance: as the registry knows it now.
        cost: the peak-EWMA latency in seconds at ``stamp``; 0 when nothing is known.
        stamp: when ``cost`` was true, in seconds.
        pending: calls that were started and have not ended.
        weight: how much of the traffic it should take beside others; divides the score.
    """

    __slots__ = ("cost", "instance", "pending", "stamp", "weight")

    def __init__(self, instance: Instance, weight: float = 1.0) -> None:
        self.instance = instance
        self.cost = 0.0
        self.stamp = 0.0
        self.pending = 0
        self.weight = weight

    def __repr__(self) -> str:
        return f"<Endpoint {self.instance.id} cost={self.cost:.4f} pending={self.pending}>"

    def started(self, now: float) -> None:
        """Count a call that goes out now."""
        self.pending += 1
        silence = now - self.stamp
        if self.cost and silence > 0.0:
            # What sank while nothing was heard stays sunk, so the answer is held against that.
            self.cost = 0.0 if silence > _FORGOTTEN else self.cost * exp(-silence / TAU)
            self.stamp = now

    def finished(self, now: float, rtt: float, *, failed: bool) -> None:
        """Count an answer, or a failure that is the endpoint's fault, after ``rtt`` seconds."""
        self.pending -= 1
        if failed and rtt < PENALTY:
            rtt = PENALTY
        if rtt >= self.cost:
            self.cost = rtt
        else:
            keep = exp((self.stamp - now) / TAU) if now > self.stamp else 1.0
            self.cost = self.cost * keep + rtt * (1.0 - keep)
        self.stamp = now

    def cancelled(self) -> None:
        """Count a call whose caller hung up; that says nothing about the endpoint."""
        self.pending -= 1

    def score(self, now: float) -> float:
        """Return what one more call here would cost, in seconds."""
        silence = now - self.stamp
        cost = self.cost
        if cost == 0.0 or silence > _FORGOTTEN:
            return (_UNKNOWN + self.pending) / self.weight if self.pending else 0.0
        if silence > 0.0:
            cost *= exp(-silence / TAU)
        return cost * (self.pending + 1) / self.weight


class Picker(Protocol):
    """A way to choose from a list."""

    def choose(
        self, endpoints: list[Endpoint], exclude: Collection[str], now: float
    ) -> Endpoint | None:
        """Return one of ``endpoints`` whose id is not in ``exclude``, None when there is none."""


class PeakEwma:
    """The lower score of two endpoints at random; the default."""

    __slots__ = ("_random",)

    def __init__(self, source: Source) -> None:
        self._random = source.random

    def choose(
        self, endpoints: list[Endpoint], exclude: Collection[str], now: float
    ) -> Endpoint | None:
        """Return the better of two."""
        count = len(endpoints)
        if count == 0:
            return None
        first = int(self._random() * count)
        one = endpoints[first]
        if count == 1:
            return None if one.instance.id in exclude else one
        second = int(self._random() * (count - 1))
        if second >= first:
            second += 1
        other = endpoints[second]
        if exclude:
            allowed = _next_allowed(endpoints, first, exclude, None)
            if allowed is None:
                return None
            one = allowed
            other = _next_allowed(endpoints, second, exclude, one) or one
        return one if one.score(now) <= other.score(now) else other


class RoundRobin:
    """Each endpoint in turn; each set needs its own."""

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next = 0

    def choose(
        self, endpoints: list[Endpoint], exclude: Collection[str], now: float
    ) -> Endpoint | None:
        """Return the next one."""
        count = len(endpoints)
        if count == 0:
            return None
        index = self._next % count
        chosen = _next_allowed(endpoints, index, exclude, None) if exclude else endpoints[index]
        self._next = index + 1
        return chosen


class Random:
    """Any endpoint."""

    __slots__ = ("_random",)

    def __init__(self, source: Source) -> None:
        self._random = source.random

    def choose(
        self, endpoints: list[Endpoint], exclude: Collection[str], now: float
    ) -> Endpoint | None:
        """Return any one."""
        count = len(endpoints)
        if count == 0:
            return None
        index = int(self._random() * count)
        return _next_allowed(endpoints, index, exclude, None) if exclude else endpoints[index]


PICKERS: Mapping[str, Callable[[Source], Picker]] = {
    "peak-ewma": PeakEwma,
    "round-robin": lambda _source: RoundRobin(),
    "random": Random,
}
"""A picker for each name that the options know."""


def _next_allowed(
    endpoints: list[Endpoint], start: int, exclude: Collection[str], taken: Endpoint | None
) -> Endpoint | None:
    """Return the first endpoint from ``start`` on that may be picked; wraps around.

    It passes over at most ``len(exclude) + 1`` endpoints, however many there are.
    """
    count = len(endpoints)
    for step in range(min(count, len(exclude) + 2)):
        endpoint = endpoints[(start + step) % count]
        if endpoint is not taken and endpoint.instance.id not in exclude:
            return endpoint
    return None


class _Pool:
    """A list that forgets a member in one step: the last one takes its place."""

    __slots__ = ("_places", "members")

    def __init__(self) -> None:
        self.members: list[Endpoint] = []
        self._places: dict[str, int] = {}

    def __contains__(self, identifier: str) -> bool:
        return identifier in self._places

    def add(self, endpoint: Endpoint) -> None:
        identifier = endpoint.instance.id
        if identifier not in self._places:
            self._places[identifier] = len(self.members)
            self.members.append(endpoint)

    def discard(self, identifier: str) -> None:
        place = self._places.pop(identifier, None)
        if place is None:
            return
        last = self.members.pop()
        if place < len(self.members):
            self.members[place] = last
            self._places[last.instance.id] = place


class EndpointSet:
    """The endpoints of one app, fed with the registry's changes.

    An instance that is unhealthy, or takes no calls at all, is kept with what is known of it and
    not picked. One whose connection broke is *suspect*: picked only while there is no other, until
    the registry puts it again or :data:`PROBE_AFTER` has passed.
    """

    __slots__ = ("_endpoints", "_picker", "_probes", "_ready", "_suspects", "_until")

    def __init__(self, picker: Picker) -> None:
        self._picker = picker
        self._endpoints: dict[str, Endpoint] = {}
        self._ready = _Pool()
        self._suspects = _Pool()
        self._until: dict[str, float] = {}
        self._probes: deque[tuple[float, str]] = deque()

    def __len__(self) -> int:
        return len(self._endpoints)

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self._endpoints.values())

    def __repr__(self) -> str:
        return (
            f"<EndpointSet {len(self._endpoints)} known, {len(self._ready.members)} ready, "
            f"{len(self._suspects.members)} suspect>"
        )

    def get(self, identifier: str) -> Endpoint | None:
        """Return the endpoint of an instance, None when it is not known."""
        return self._endpoints.get(identifier)

    def apply(self, change: Change) -> None:
        """Follow the registry; what is known of instances that stay is kept."""
        match change:
            case Put(instance):
                self._put(instance)
            case Gone(identifier):
                self._remove(identifier)
            case Snapshot(instances):
                for identifier in self._endpoints.keys() - {one.id for one in instances}:
                    self._remove(identifier)
                for instance in instances:
                    self._put(instance)

    def pick(self, exclude: Collection[str], now: float) -> Endpoint | None:
        """Return the endpoint for the next call, None when no endpoint may take it.

        Args:
            exclude: ids of instances that this call has tried already.
            now: seconds on a clock that does not go back.
        """
        if self._probes:
            self._release(now)
        chosen = self._picker.choose(self._ready.members, exclude, now)
        if chosen is None and self._suspects.members:
            chosen = self._picker.choose(self._suspects.members, exclude, now)
        return chosen

    def suspect(self, identifier: str, now: float) -> None:
        """Say that the connection to an instance broke."""
        endpoint = self._endpoints.get(identifier)
        if endpoint is not None and identifier in self._ready:
            self._ready.discard(identifier)
            self._suspects.add(endpoint)
            self._until[identifier] = now + PROBE_AFTER
            self._probes.append((now + PROBE_AFTER, identifier))

    def trust(self, identifier: str) -> None:
        """Say that an instance can be reached again."""
        if identifier in self._suspects:
            self._clear(identifier)
            self._ready.add(self._endpoints[identifier])

    def _put(self, instance: Instance) -> None:
        endpoint = self._endpoints.get(instance.id)
        if endpoint is None:
            endpoint = self._endpoints[instance.id] = Endpoint(instance)
        else:
            endpoint.instance = instance
        self._clear(instance.id)
        if instance.healthy and instance.protocol:
            self._ready.add(endpoint)
        else:
            self._ready.discard(instance.id)

    def _remove(self, identifier: str) -> None:
        if self._endpoints.pop(identifier, None) is not None:
            self._ready.discard(identifier)
            self._clear(identifier)

    def _clear(self, identifier: str) -> None:
        self._suspects.discard(identifier)
        self._until.pop(identifier, None)

    def _release(self, now: float) -> None:
        while self._probes and self._probes[0][0] <= now:
            until, identifier = self._probes.popleft()
            if self._until.get(identifier) == until:
                self.trust(identifier)


__all__ = [
    "PENALTY",
    "PICKERS",
    "PROBE_AFTER",
    "TAU",
    "Endpoint",
    "EndpointSet",
    "PeakEwma",
    "Picker",
    "Random",
    "RoundRobin",
    "Source",
]
