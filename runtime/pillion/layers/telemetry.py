"""Counts calls and how long they take; outermost, so that it sees what the caller sees."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from pillion.call import Call, Handler, Layer, Reply
from pillion.errors import Failure
from pillion.series import Series


def telemetry(series: Series, clock: Callable[[], float] = time.monotonic) -> Layer:
    """Return the layer that counts into ``series``."""

    def layer(inner: Handler) -> Handler:
        async def handler(call: Call) -> Reply:
            began = clock()
            series.in_flight += 1
            try:
                reply = await inner(call)
            except Failure as failure:
                series.failures[failure.reason] = series.failures.get(failure.reason, 0) + 1
                raise
            except asyncio.CancelledError:
                series.failures["cancelled"] = series.failures.get("cancelled", 0) + 1
                raise
            else:
                status = reply.status
                series.statuses[status] = series.statuses.get(status, 0) + 1
                return reply
            finally:
                series.in_flight -= 1
                series.observe(clock() - began)

        return handler

    return layer
