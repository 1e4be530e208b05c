"""Testing an app without a runtime, a network or a port."""

from pillion_sdk.testing.client import AsyncTestClient, SyncTestClient, TestClient
from pillion_sdk.testing.runtime import Invocation, RuntimeDouble, UnexpectedInvoke

__all__ = (
    "TestClient",
    "AsyncTestClient",
    "SyncTestClient",
    "Invocation",
    "RuntimeDouble",
    "UnexpectedInvoke",
)
