"""Pillion's SDK: apps made of functions, and calls to other apps.

It stands on its own: it imports nothing of the runtime, and speaks HTTP with it.
"""

from pillion_sdk.app import App
from pillion_sdk.blocking import SyncClient
from pillion_sdk.client import Client, NotReady
from pillion_sdk.headers import Headers
from pillion_sdk.invocation import CallOptions, InvokeError
from pillion_sdk.lock import HeldLock, LockError, LockHeld, LockLost
from pillion_sdk.markers import Body, Header, Query
from pillion_sdk.problems import (
    BadRequest,
    Conflict,
    Forbidden,
    MethodNotAllowed,
    NotFound,
    Problem,
    RegistrationError,
    TimedOut,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    Unprocessable,
)
from pillion_sdk.request import Request, current_request
from pillion_sdk.response import Event, Response, events
from pillion_sdk.runtime_api import ApiError
from pillion_sdk.state import StateStore
from pillion_sdk.state_changes import Delete, Save, StateConflict, StateError, Stored
from pillion_sdk.transaction import Transaction
from pillion_sdk.transport import IncomingReply

__all__ = (
    "App",
    "Request",
    "current_request",
    "Response",
    "Headers",
    "Event",
    "events",
    "Body",
    "Header",
    "Query",
    "Client",
    "SyncClient",
    "CallOptions",
    "IncomingReply",
    "InvokeError",
    "NotReady",
    "StateStore",
    "Stored",
    "Save",
    "Delete",
    "Transaction",
    "HeldLock",
    "ApiError",
    "StateError",
    "StateConflict",
    "LockError",
    "LockHeld",
    "LockLost",
    "Problem",
    "BadRequest",
    "Unauthorized",
    "Forbidden",
    "NotFound",
    "MethodNotAllowed",
    "Conflict",
    "TooLarge",
    "Unprocessable",
    "TooManyRequests",
    "Unavailable",
    "TimedOut",
    "RegistrationError",
)
