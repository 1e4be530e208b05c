"""Failures as the API writes them: status, headers, and the two shapes of the body."""

from __future__ import annotations

import json

import pytest

from pillion.errors import Conflict, Failure, Invalid, NotAllowed, Overloaded, Unavailable
from pillion.wire.error_details import bad_request, error_info, help_link, resource_info
from pillion.wire.errors_json import error_reply, status_of


def test_without_details() -> None:
    """Code and message, and nothing else."""
    reply = error_reply(Invalid("no", code="ERR_X", reason="why"))
    assert json.loads(reply.body) == {"errorCode": "ERR_X", "message": "no"}
    assert reply.header(b"x-pillion-reason") == b"why"


def test_with_details() -> None:
    """Details follow, each with its type and the fields of that type."""
    details = [
        error_info("REASON", {"a": "b"}),
        resource_info("state", "s"),
        bad_request("f", "wrong"),
        help_link("https://example.com", "more"),
    ]
    written = json.loads(error_reply(Failure("no", code="ERR_X", details=details)).body)
    assert written.pop("errorCode") == "ERR_X"
    kind = "type.googleapis.com/google.rpc."
    assert written["details"] == [
        {"@type": f"{kind}ErrorInfo", "reason": "REASON", "domain": "dapr.io",
         "metadata": {"a": "b"}},
        {"@type": f"{kind}ResourceInfo", "resource_type": "state", "resource_name": "s",
         "owner": "", "description": ""},
        {"@type": f"{kind}BadRequest",
         "field_violations": [{"field": "f", "description": "wrong"}]},
        {"@type": f"{kind}Help", "links": [{"description": "more", "url": "https://example.com"}]},
    ]  # fmt: skip
    assert error_info("R")["metadata"] is None


@pytest.mark.parametrize("code", ["ERR_STATE_SAVE", "ERR_STATE_DELETE"])
@pytest.mark.parametrize(
    ("kind", "status"),
    [(Conflict, 409), (Invalid, 400), (Unavailable, 500), (Failure, 500), (Overloaded, 500)],
)
def test_conditional_writes(code: str, kind: type[Failure], status: int) -> None:
    """409 and 400 speak of the tag; whatever else goes wrong is 500."""
    assert status_of(kind("no", code=code)) == status


def test_codes_go_over_classes() -> None:
    """A code whose status is fixed has it whatever the failure's class."""
    for kind in (Invalid, Unavailable, NotAllowed, Conflict):
        assert status_of(kind("no", code="ERR_STATE_GET")) == 500
        assert status_of(kind("no", code="ERR_SECRET_STORE_NOT_FOUND")) == 401
