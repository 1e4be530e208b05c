"""A component's failure as the failure of an API call: same kind, the API's code and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pillion.errors import BY_NAME, Failure


def retold(
    failure: Failure,
    code: str,
    message: str,
    details: Sequence[Mapping[str, object]] = (),
    kind: type[Failure] | None = None,
) -> Failure:
    """Return ``failure`` under ``code`` with ``message``; ``kind`` is its own unless said.

    A class that a component derived for itself becomes the one of ours that it derives from.
    """
    if kind is None:
        ours = set(BY_NAME.values())
        kind = next(one for one in type(failure).__mro__ if one in ours)
    return kind(
        message,
        code=code,
        reason=failure.reason,
        reached=failure.reached,
        retry_after=failure.retry_after,
        details=details,
    )


__all__ = ["retold"]
