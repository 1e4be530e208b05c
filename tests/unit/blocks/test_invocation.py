"""A request in any target form becomes one call; what it may not say is not passed on."""

from __future__ import annotations

import math
import time
from base64 import b64encode

import pytest

from pillion.blocks.invocation import Host, Invocation
from pillion.body import BodyStream
from pillion.call import Call, Reply, Target
from pillion.errors import Failure, Invalid, NotFound, TimedOut, Unavailable
from pillion.inline import Run
from pillion.operation import Request
from pillion.wire.errors_json import status_of

HOST = Host("checkout", "default", "10.0.0.1", "node-1")


class Caller:
    """Invokes, and remembers the calls that come of it."""

    def __init__(self, host: Host = HOST, outcome: Reply | Exception | None = None, **settings):
        self.outcome = Reply(200) if outcome is None else outcome
        self.calls: list[Call] = []
        self.block = Invocation(host, lambda _target: self._handler, {"shop", "a.b.c"}, **settings)

    async def _handler(self, call: Call) -> Reply:
        self.calls.append(call)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def serve(self, request: Request) -> Reply:
        outcome = []
        Run(self.block.serve(request), lambda reply, error: outcome.append((reply, error)))
        ((reply, error),) = outcome
        if error is not None:
            raise error
        return reply

    def call(self, request: Request) -> Call:
        self.serve(request)
        return self.calls[-1]


def asking(path: bytes, method: bytes = b"GET", **attributes) -> Request:
    request = Request(method, path)
    for name, value in attributes.items():
        setattr(request, name, value)
    return request


BASIC = b"Basic " + b64encode(b"dapr-app-id:orders")


@pytest.mark.parametrize(
    ("request_", "target", "path"),
    [
        (asking(b"/v1.0/invoke/orders/method/a/b"), ("app", "orders", "default"), b"/a/b"),
        (asking(b"/v1.0/invoke/orders.prod/method/a"), ("app", "orders", "prod"), b"/a"),
        (asking(b"/v1.0/invoke/orders/method/"), ("app", "orders", "default"), b"/"),
        (asking(b"/v1.0/invoke/orders/method"), ("app", "orders", "default"), b"/"),
        (asking(b"/v1.0////invoke//orders/method/a"), ("app", "orders", "default"), b"/a"),
        (asking(b"//v1.0/invoke/orders/method/a"), ("app", "orders", "default"), b"/a"),
        (asking(b"/a/b", app_id=b"orders"), ("app", "orders", "default"), b"/a/b"),
        (asking(b"/", app_id=b"orders.prod"), ("app", "orders", "prod"), b"/"),
        (asking(b"/a", authorization=BASIC), ("app", "orders", "default"), b"/a"),
        (asking(b"/v1.0/invoke/shop/method/a"), ("endpoint", "shop", ""), b"/a"),
        (asking(b"/v1.0/invoke/a.b.c/method/a"), ("endpoint", "a.b.c", ""), b"/a"),
        (asking(b"/a", app_id=b"shop"), ("endpoint", "shop", ""), b"/a"),
        (
            asking(b"/v1.0/invoke/http://host:1/method/a"),
            ("endpoint", "http://host:1", ""),
            b"/a",
        ),
        (
            asking(b"/v1.0/invoke/https%3A%2F%2Fhost/method/a"),
            ("endpoint", "https://host", ""),
            b"/a",
        ),
    ],
)
def test_target_forms(request_, target, path):
    """URL, namespace, header, Basic, endpoint and direct URL."""
    call = Caller().call(request_)
    assert call.target == Target(*target)
    assert call.path == path


def test_the_header_wins_over_basic_and_both_over_the_path():
    """And then the whole path is the method."""
    path = b"/v1.0/invoke/third/method/x"
    call = Caller().call(asking(path, app_id=b"first", authorization=BASIC))
    assert (call.target.name, call.path) == ("first", path)
    call = Caller().call(asking(path, authorization=BASIC))
    assert (call.target.name, call.path) == ("orders", path)
    call = Caller().call(asking(path, authorization=b"Bearer x"))
    assert (call.target.name, call.path) == ("third", b"/x")


def test_a_call_carries_the_request():
    """Method, query, headers and body, untouched."""
    body = BodyStream()
    headers = [(b"X", b"1"), (b"x", b"2")]
    request = asking(b"/a", b"PATCH", app_id=b"checkout", query=b"a=%2F&b", headers=headers,
                     body=body)  # fmt: skip
    call = Caller().call(request)
    assert (call.operation, call.method, call.query) == ("invocation.call", b"PATCH", b"a=%2F&b")
    assert call.headers == [(b"X", b"1"), (b"x", b"2")]
    assert call.body is body
    assert call.deadline == math.inf
    assert call.caller is None


@pytest.mark.parametrize(
    "path", [b"/", b"/orders", b"/v1.0/invoke/app", b"/v1.0/state/x", b"/v1.0"]
)
def test_a_wrong_path_has_no_target(path):
    """The 404 of the reference, word for word."""
    with pytest.raises(NotFound) as refused:
        Caller().serve(asking(path))
    assert refused.value.code == "ERR_DIRECT_INVOKE"
    assert status_of(refused.value) == 404
    assert refused.value.message == (
        "failed getting app id either from the URL path or the header dapr-app-id"
    )


def test_denied_invocation_looks_like_a_wrong_path():
    """An API that is switched off is not there."""
    caller = Caller(enabled=False)
    with pytest.raises(NotFound):
        caller.serve(asking(b"/v1.0/invoke/orders/method/a"))
    assert caller.calls == []


@pytest.mark.parametrize(
    "request_",
    [
        asking(b"/v1.0/invoke/a.b.d/method/x"),
        asking(b"/v1.0/invoke/a%20b/method/x"),
        asking(b"/x", app_id=b"a, b"),
        asking(b"/v1.0/invoke/orders/method/a%23b"),
        asking(b"/v1.0/invoke/orders/method/a%3Fb"),
        asking(b"/v1.0/invoke/orders/method/test%25stream"),
        asking(b"/v1.0/invoke/orders/method/%00"),
    ],
)
def test_bad_app_ids_and_methods_are_500(request_):
    """As the reference has it; nothing is called."""
    caller = Caller()
    with pytest.raises(Invalid) as refused:
        caller.serve(request_)
    assert (refused.value.code, status_of(refused.value)) == ("ERR_DIRECT_INVOKE", 500)
    assert caller.calls == []


# Failures.


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (Unavailable("no instance", reason="no-healthy-instance", reached=False), 500),
        (TimedOut("too late"), 504),
        (Failure("odd", retry_after=2.0), 500),
    ],
)
def test_failures_become_those_of_invocation(failure, status):
    """With the target's name, and their kind, reason and facts kept."""
    with pytest.raises(type(failure)) as raised:
        Caller(outcome=failure).serve(asking(b"/v1.0/invoke/orders.prod/method/a"))
    seen = raised.value
    assert seen.message == f"failed to invoke, id: orders.prod, err: {failure.message}"
    assert (seen.code, seen.reason) == ("ERR_DIRECT_INVOKE", failure.reason)
    assert (seen.reached, seen.retry_after) == (failure.reached, failure.retry_after)
    assert status_of(seen) == status


def test_a_failed_call_lets_go_of_its_body():
    """The client's upload has no reader any more."""
    abandoned = []
    body = BodyStream(on_abandoned=lambda: abandoned.append(True))
    with pytest.raises(Unavailable):
        Caller(outcome=Unavailable("x")).serve(asking(b"/a", app_id=b"orders", body=body))
    assert abandoned == [True]


# Deadlines.


def test_a_deadline_travels_with_the_call():
    """Given in milliseconds from now, kept on the clock of the process."""
    before = time.monotonic()
    call = Caller().call(asking(b"/a", app_id=b"orders", deadline_ms=b"1500"))
    assert before + 1.5 <= call.deadline <= time.monotonic() + 1.5


@pytest.mark.parametrize("value", [b"x", b"-1", b"1.5", b"1, 2", b"9" * 13, b"1e3"])
def test_a_bad_deadline_is_refused(value):
    """Rather than being taken for none."""
    with pytest.raises(Invalid, match="x-pillion-deadline-ms"):
        Caller().serve(asking(b"/a", app_id=b"orders", deadline_ms=value))


# Forwarding headers.

FORWARDED = {
    "forwarded_for": b"1.2.3.4",
    "forwarded_host": b"outer",
    "forwarded": b"for=1.2.3.4",
}


def forwarding(call: Call) -> dict[bytes, bytes]:
    names = (b"x-forwarded-for", b"x-forwarded-host", b"forwarded")
    found = [(name.lower(), value) for name, value in call.headers if name.lower() in names]
    assert len(dict(found)) == len(found)
    return dict(found)


def test_this_hop_is_added_on_the_way_to_another_app():
    """Address and host name of the calling runtime."""
    assert forwarding(Caller().call(asking(b"/a", app_id=b"orders"))) == {
        b"x-forwarded-for": b"10.0.0.1",
        b"x-forwarded-host": b"node-1",
        b"forwarded": b"for=10.0.0.1;by=10.0.0.1;host=node-1",
    }


def test_this_hop_is_added_behind_earlier_ones():
    """Appended, never replacing what earlier proxies said."""
    assert forwarding(Caller().call(asking(b"/a", app_id=b"orders", **FORWARDED))) == {
        b"x-forwarded-for": b"1.2.3.4, 10.0.0.1",
        b"x-forwarded-host": b"outer, node-1",
        b"forwarded": b"for=1.2.3.4, for=10.0.0.1;by=10.0.0.1;host=node-1",
    }


def test_ipv6_addresses_are_quoted():
    """RFC 7239, section 6."""
    caller = Caller(Host("checkout", "default", "fd00::1", "node-1"))
    assert forwarding(caller.call(asking(b"/a", app_id=b"orders")))[b"forwarded"] == (
        b'for="[fd00::1]";by="[fd00::1]";host=node-1'
    )


@pytest.mark.parametrize("target", [b"checkout", b"checkout.default", b"shop"])
def test_without_a_hop_between_runtimes_nothing_is_added(target):
    """To itself and to the outside, only what earlier proxies said is passed on."""
    assert forwarding(Caller().call(asking(b"/a", app_id=target))) == {}
    assert forwarding(Caller().call(asking(b"/a", app_id=target, **FORWARDED))) == {
        b"x-forwarded-for": b"1.2.3.4",
        b"x-forwarded-host": b"outer",
        b"forwarded": b"for=1.2.3.4",
    }


def test_the_same_app_elsewhere_is_another_app():
    """Another namespace is another hop."""
    assert forwarding(Caller().call(asking(b"/a", app_id=b"checkout.prod"))) != {}


# Replies.


def test_a_reply_passes_as_it_is():
    """Any status, headers and body."""
    reply = Reply(302, [(b"Location", b"/x")], b"moved")
    assert Caller(outcome=reply).serve(asking(b"/a", app_id=b"orders")) is reply


def test_event_streams_say_what_they_are():
    """For a client that asks for one, where the app did not say it."""

    def ask():
        return asking(b"/a", app_id=b"orders", accept=b"text/event-stream")

    reply = Caller(outcome=Reply(200)).serve(ask())
    assert reply.header(b"content-type") == b"text/event-stream"
    assert reply.header(b"cache-control") == b"no-cache"
    own = Reply(200, [(b"Content-Type", b"text/plain"), (b"Cache-Control", b"private")])
    reply = Caller(outcome=own).serve(ask())
    assert reply.headers == [(b"Content-Type", b"text/plain"), (b"Cache-Control", b"private")]
    assert Caller(outcome=Reply(200)).serve(asking(b"/a", app_id=b"orders")).headers == []
