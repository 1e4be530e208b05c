"""The components of the runtime's stand-in: stores that come into being when they are named."""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote

import msgspec

from pillion_sdk.headers import Headers
from pillion_sdk.invocation import OutgoingCall
from pillion_sdk.problems import BadRequest, NotFound, Problem
from pillion_sdk.response import Response, problem_response
from pillion_sdk.testing.locks import LockDouble
from pillion_sdk.testing.store import StateDouble


class Components:
    """State and lock stores by name."""

    def __init__(self) -> None:
        self._states: dict[str, StateDouble] = {}
        self._locks: dict[str, LockDouble] = {}

    def state(self, name: str) -> StateDouble:
        """Return a state store; empty until something is stored."""
        return self._states.setdefault(name, StateDouble(name))

    def lock(self, name: str) -> LockDouble:
        """Return a lock store."""
        return self._locks.setdefault(name, LockDouble(name))

    async def answer(self, call: OutgoingCall) -> Response:
        """Answer a request to the runtime's own API."""
        path, _, query = call.target.partition("?")
        segments = [unquote(segment) for segment in path.strip("/").split("/")]
        body = call.body if isinstance(call.body, bytes) else b""
        parameters = dict(parse_qsl(query, keep_blank_values=True))
        try:
            match segments:
                case ["v1.0", "healthz", "outbound"]:
                    return Response(204)
                case ["v1.0", "state", store, *rest]:
                    headers = Headers(call.headers)
                    return await self.state(store).answer(
                        call.method, rest, parameters, body, headers
                    )
                case ["v1.0-alpha1", "lock" | "unlock", store, *_]:
                    return self.lock(store).answer(segments[1:], body)
            raise NotFound(f"the stand-in for the runtime has no {call.method} {path}")
        except msgspec.DecodeError as error:
            malformed = BadRequest(str(error), error_code="ERR_MALFORMED_REQUEST")
            return problem_response(malformed)
        except Problem as problem:
            return problem_response(problem)
