"""Testing an app without a runtime, a network or a port."""

from pillion_sdk.testing.client import AsyncTestClient, SyncTestClient, TestClient
from pillion_sdk.testing.locks import LockDouble
from pillion_sdk.testing.runtime import Invocation, RuntimeDouble, UnexpectedInvoke
from pillion_sdk.testing.store import StateDouble

__all__ = (
    "TestClient",
    "AsyncTestClient",
    "SyncTestClient",
    "Invocation",
    "RuntimeDouble",
    "UnexpectedInvoke",
    "StateDouble",
    "LockDouble",
)
