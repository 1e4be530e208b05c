"""Every failure has its status and JSON, and nothing else decides them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion import errors
from pillion.errors import Failure
from pillion.wire.errors_json import error_body, error_reply, json_reply, status_of, text_reply

STATUSES = {
    errors.Invalid: 400,
    errors.NotAllowed: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.TooLarge: 413,
    errors.Overloaded: 503,
    errors.Unsupported: 501,
    errors.TimedOut: 504,
    errors.Unavailable: 503,
    Failure: 500,
}


@pytest.mark.parametrize("kind", errors.BY_NAME.values())
def test_every_class_has_its_status(kind: type[Failure]) -> None:
    """Where the code fixes none."""
    reply = error_reply(kind("what happened"))
    assert reply.status == STATUSES[kind]
    assert reply.header(b"content-type") == b"application/json"
    assert reply.header(b"x-pillion-reason") == kind.reason.encode()
    assert isinstance(reply.body, bytes)
    assert json.loads(reply.body) == {"errorCode": kind.code, "message": "what happened"}


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (Failure("x", code="ERR_HEALTH_NOT_READY"), 500),
        (Failure("x", code="ERR_HEALTH_APPID_NOT_MATCH"), 500),
        (errors.Unavailable("x", code="ERR_OUTBOUND_HEALTH_NOT_READY"), 500),
        (errors.Unavailable("x", code="ERR_BODY_READ"), 400),
        (errors.Invalid("x", code="ERR_MALFORMED_REQUEST"), 400),
        (errors.NotFound("x", code="ERR_DIRECT_INVOKE", reason="no-target"), 404),
        (errors.NotFound("x", code="ERR_DIRECT_INVOKE", reason="unknown-app"), 500),
        (errors.NotAllowed("x", code="ERR_DIRECT_INVOKE"), 403),
        (errors.Unavailable("x", code="ERR_DIRECT_INVOKE"), 500),
        (errors.Invalid("x", code="ERR_DIRECT_INVOKE"), 500),
        (errors.TimedOut("x", code="ERR_DIRECT_INVOKE"), 504),
        (errors.Overloaded("x", code="ERR_DIRECT_INVOKE"), 503),
        (errors.TooLarge("x", code="ERR_DIRECT_INVOKE"), 413),
        (Failure("x", code="ERR_NEW"), 500),
        (errors.Conflict("x", code="ERR_STATE_SAVE"), 409),
    ],
)
def test_codes_with_a_status_of_their_own(failure: Failure, status: int) -> None:
    """Dapr's codes have Dapr's statuses; others go by their class."""
    assert status_of(failure) == status


@pytest.mark.parametrize(("seconds", "header"), [(0.01, b"1"), (1.0, b"1"), (2.2, b"3")])
def test_retry_after_is_in_whole_seconds(seconds: float, header: bytes) -> None:
    """Rounded up, and never 0: nobody is sent into a busy loop."""
    reply = error_reply(errors.Overloaded("busy", retry_after=seconds))
    assert reply.header(b"retry-after") == header


def test_retry_after_only_where_it_means_something() -> None:
    """A 500 or 504 carries none, nor a 503 that knows none."""
    for failure in (
        Failure("x", retry_after=1.0),
        errors.TimedOut("x", retry_after=1.0),
        errors.Unavailable("x"),
    ):
        assert error_reply(failure).header(b"retry-after") is None


@given(st.text(), st.text())
def test_any_message_becomes_json(code: str, message: str) -> None:
    """Quotes, control characters and lone surrogates included, in plain ASCII."""
    body = error_body(code, message)
    assert json.loads(body) == {"errorCode": code, "message": message}
    assert body.isascii()


def test_text_and_json_replies() -> None:
    """Their types and bodies are the reference's."""
    text = text_reply(401, "invalid api token")
    assert (text.status, text.body) == (401, b"invalid api token")
    assert text.header(b"content-type") == b"text/plain; charset=utf-8"
    value = json_reply({"a": [1, None]})
    assert (value.status, value.body) == (200, b'{"a":[1,null]}\n')
    assert value.header(b"content-type") == b"application/json"
