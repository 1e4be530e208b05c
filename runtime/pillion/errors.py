"""The failures of Pillion: few classes, named for the condition, each with a stable code.

A failure says three things a program can act on: its ``code`` (the ``errorCode`` of the API), its
``reason`` (a short word for logs, metrics and the ``x-pillion-reason`` header) and ``reached``:
whether the call may have arrived at the app. They become statuses and JSON in
``wire/errors_json.py`` and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class Failure(Exception):
    """A call that did not succeed, for a reason that Pillion knows.

    Args:
        message: one sentence that names the thing and says what to do.
        code: the stable ``errorCode`` of the API, such as ``ERR_DIRECT_INVOKE``.
        reason: a short, stable word such as ``no-healthy-instance``.
        reached: True when the call may have arrived at its target, so that only an idempotent
            call may be tried again.
        details: what else the API tells programs, in the shapes of ``wire/error_details.py``.
    """

    code = "ERROR"
    reason = "error"
    retryable = False

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        reason: str | None = None,
        reached: bool = True,
        retry_after: float | None = None,
        details: Sequence[Mapping[str, object]] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        if reason is not None:
            self.reason = reason
        self.reached = reached
        self.retry_after = retry_after
        """Seconds after which another try makes sense, or None when nobody knows."""
        self.details = details


class Invalid(Failure):
    """The request itself is wrong; the same request will fail again."""

    code = "ERR_BAD_REQUEST"
    reason = "invalid"


class NotAllowed(Failure):
    """A rule forbids it."""

    code = "ERR_PERMISSION_DENIED"
    reason = "denied"


class NotFound(Failure):
    """The named thing does not exist."""

    code = "ERR_NOT_FOUND"
    reason = "not-found"


class Conflict(Failure):
    """The thing is not in the state the caller expected."""

    code = "ERR_CONFLICT"
    reason = "conflict"


class TooLarge(Failure):
    """A body, a header block or a message is over its limit."""

    code = "ERR_BODY_TOO_LARGE"
    reason = "too-large"


class Unsupported(Failure):
    """The thing exists and does not do that."""

    code = "ERR_API_UNIMPLEMENTED"
    reason = "unsupported"


class Unavailable(Failure):
    """The target cannot be reached or broke off; another try, or another instance, may answer."""

    code = "ERR_UNAVAILABLE"
    reason = "unavailable"
    retryable = True


class TimedOut(Failure):
    """The time for the call is over."""

    code = "ERR_TIMED_OUT"
    reason = "deadline"


class Overloaded(Failure):
    """Shed at once instead of queued; see ``retry_after``."""

    code = "ERR_OVERLOADED"
    reason = "overloaded"
    retryable = True

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        reason: str | None = None,
        reached: bool = False,
        retry_after: float | None = 1.0,
        details: Sequence[Mapping[str, object]] = (),
    ) -> None:
        super().__init__(
            message,
            code=code,
            reason=reason,
            reached=reached,
            retry_after=retry_after,
            details=details,
        )


BY_NAME: Mapping[str, type[Failure]] = {
    kind.__name__: kind
    for kind in (
        Failure,
        Invalid,
        NotAllowed,
        NotFound,
        Conflict,
        TooLarge,
        Unsupported,
        Unavailable,
        TimedOut,
        Overloaded,
    )
}
"""Each class by its name, for failures that travel between runtimes."""
