"""Refuses calls whose time is over, before anything is done for them."""

from __future__ import annotations

import time
from collections.abc import Callable

from pillion.body import discard
from pillion.call import Call, Handler, Layer, Reply
from pillion.errors import TimedOut


def deadline(clock: Callable[[], float] = time.monotonic) -> Layer:
    """Return the layer; every wait further in keeps to ``call.deadline`` itself."""

    def layer(inner: Handler) -> Handler:
        async def handler(call: Call) -> Reply:
            if call.deadline <= clock():
                discard(call.body)
                raise TimedOut("the call's deadline has passed", reached=False)
            return await inner(call)

        return handler

    return layer
