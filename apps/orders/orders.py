"""Takes orders: functions with the SDK, one call on to the stock."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

from pillion_sdk import App

app = App("orders")

WORK = 0.01
"""Seconds that an order takes here, so that some are always on their way."""


@dataclass
class Reservation:
    """What the stock answers."""

    item: str
    id: str
    by: str
    pid: int


@dataclass
class Order:
    """An order that was taken.

    Attributes:
        instance: the process that took it.
        stock: what answered behind it.
    """

    id: str
    item: str
    instance: int
    stock: str


@app.call("orders/{id}", methods=["PUT"])
async def place(id: str, item: str = "saddle") -> Order:
    """Take an order; idempotent, like the reservation behind it."""
    await asyncio.sleep(WORK)
    reservation = await app.client.invoke(
        "stock", f"items/{item}/reservations/{id}", method="PUT", type=Reservation
    )
    return Order(id, item, os.getpid(), reservation.by)


if __name__ == "__main__":
    app.run()
