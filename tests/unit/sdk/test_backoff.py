"""Pauses between tries."""

from pillion_sdk.backoff import jittered


def test_pauses_grow_to_their_limit_and_differ():
    """Each is above zero and below its limit, which doubles and then stays."""
    for attempt, limit in ((0, 0.1), (1, 0.2), (2, 0.3), (1000, 0.3)):
        pauses = [jittered(attempt, first=0.1, most=0.3) for _ in range(200)]
        assert 0 < min(pauses) < limit / 4
        assert limit * 3 / 4 < max(pauses) <= limit
        assert len(set(pauses)) > 100
