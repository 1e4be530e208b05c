"""Errors that mean a status: what a handler raises, and what one's own exceptions become."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from pillion_sdk.headers import HeaderSource


class RegistrationError(TypeError):
    """A handler, a path or an exception that the app cannot register; the message says why."""


class Problem(Exception):
    """An error whose status and code the caller gets to see.

    The caller receives ``{"errorCode": error_code, "message": message}``.

    Args:
        message: one sentence for the caller.
        status: the HTTP status, 400 to 599; the class says the usual one.
        error_code: a stable word for programs, such as ``ERR_OUT_OF_STOCK``.
        headers: sent with the response.
    """

    status = 500
    error_code = "ERR_INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        error_code: str | None = None,
        headers: HeaderSource | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.headers = headers
        if status is not None:
            self.status = status
        if error_code is not None:
            self.error_code = error_code


class BadRequest(Problem):
    """400: the request itself is wrong."""

    status = 400
    error_code = "ERR_BAD_REQUEST"


class Unauthorized(Problem):
    """401: the caller has to say who it is."""

    status = 401
    error_code = "ERR_UNAUTHORIZED"


class Forbidden(Problem):
    """403: this caller may not do that."""

    status = 403
    error_code = "ERR_PERMISSION_DENIED"


class NotFound(Problem):
    """404: the named thing does not exist."""

    status = 404
    error_code = "ERR_NOT_FOUND"


class MethodNotAllowed(Problem):
    """405: the path exists and does not take this method."""

    status = 405
    error_code = "ERR_METHOD_NOT_ALLOWED"


class Conflict(Problem):
    """409: the thing is not in the state the caller expected."""

    status = 409
    error_code = "ERR_CONFLICT"


class TooLarge(Problem):
    """413: the body is over the limit."""

    status = 413
    error_code = "ERR_BODY_TOO_LARGE"


class Unprocessable(Problem):
    """422: well formed, and still not acceptable."""

    status = 422
    error_code = "ERR_UNPROCESSABLE"


class _MayRetry(Problem):
    """An error that can tell when another try makes sense.

    Args:
        retry_after: seconds, sent as ``Retry-After`` rounded up to whole ones.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        status: int | None = None,
        error_code: str | None = None,
    ) -> None:
        headers = None
        if retry_after is not None:
            headers = {"retry-after": str(max(0, math.ceil(retry_after)))}
        super().__init__(message, status=status, error_code=error_code, headers=headers)
        self.retry_after = retry_after


class TooManyRequests(_MayRetry):
    """429: the caller asks too often."""

    status = 429
    error_code = "ERR_TOO_MANY_REQUESTS"


class Unavailable(_MayRetry):
    """503: not now; another try may succeed."""

    status = 503
    error_code = "ERR_UNAVAILABLE"


class TimedOut(Problem):
    """504: something this app waits for did not answer in time."""

    status = 504
    error_code = "ERR_TIMED_OUT"


@dataclass(frozen=True, slots=True)
class _Rule:
    status: int
    error_code: str
    message: Callable[[Exception], str]


class ErrorTable:
    """Which exceptions of the user's own mean which status."""

    def __init__(self) -> None:
        self._rules: dict[type[BaseException], _Rule] = {}

    def add(
        self,
        kind: type[Exception],
        status: int,
        error_code: str,
        message: Callable[[Exception], str],
    ) -> None:
        """Map an exception class, and those derived from it, to a status.

        Raises:
            RegistrationError: the status is no error, or the class is mapped already.
        """
        if not 400 <= status <= 599:
            raise RegistrationError(
                f"{kind.__name__} cannot mean status {status}: give one from 400 to 599"
            )
        if kind in self._rules:
            raise RegistrationError(f"{kind.__name__} is mapped to a status already")
        self._rules[kind] = _Rule(status, error_code, message)

    def problem_for(self, error: Exception) -> Problem | None:
        """Return what the caller is told about an error, or None for an unexpected one."""
        for kind in type(error).__mro__:
            rule = self._rules.get(kind)
            if rule is not None:
                return Problem(rule.message(error), status=rule.status, error_code=rule.error_code)
        return error if isinstance(error, Problem) else None
