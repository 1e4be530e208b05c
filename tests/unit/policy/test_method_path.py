"""A method has one path, whatever it is disguised as; a target is read from one place."""

from __future__ import annotations

import posixpath
import re
from base64 import b64encode
from urllib.parse import quote_from_bytes, unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pillion.errors import Invalid
from pillion.policy.method_path import (
    Address,
    from_basic,
    from_path,
    normalise,
    split_app_id,
)

# The path.


def reference(method: bytes) -> bytes | None:
    """Return the decoded path a method means, None when it has none; by segments, on its own."""
    decoded = unquote_to_bytes(method)
    if any(byte < 0x20 or byte in b"#?%\x7f" for byte in decoded):
        return None
    kept: list[bytes] = []
    for segment in decoded.split(b"/"):
        if segment == b"..":
            del kept[-1:]
        elif segment not in (b"", b"."):
            kept.append(segment)
    path = b"/" + b"/".join(kept)
    assert path == posixpath.normpath(b"/" + decoded.lstrip(b"/"))
    return path


PIECES = st.sampled_from(
    [b"a", b"b.c", b".", b"..", b"...", b"/", b"//", b"%2F", b"%2f", b"%2E", b"%2e%2e", b"%252F",
     b"%23", b"%3f", b"?", b"#", b"%00", b"%0a", b"%7F", b"%25", b"%", b"%4", b"%zz", b"%20", b"+",
     b"%2B", b'"', b"%22", b"*", b"\\", b"%5C", b"~", b"!$&'()*+,;=:@", b"%C3%A9", b"%ff", b"%41"]
)  # fmt: skip
METHODS = st.lists(PIECES, max_size=8).map(b"".join) | st.binary(max_size=20)


@given(METHODS)
@example(b"")
@example(b"a/")
@example(b"a/b/c")
@example(b"/../a")
def test_the_path_is_the_references(method: bytes) -> None:
    """Decoded once, cleaned once, escaped once; or refused."""
    expected = reference(method)
    if expected is None:
        with pytest.raises(Invalid):
            normalise(method, "app")
    else:
        path = normalise(method, "app")
        assert unquote_to_bytes(path) == expected
        # It can stand in a request line, and there is nothing left to clean or to decode twice.
        assert re.fullmatch(rb"(/[A-Za-z0-9!$&'()*+,;=:@._~%-]*)+", path)
        assert normalise(path, "app") == path


@given(st.binary(min_size=1, max_size=20))
def test_escaping_all_or_nothing_gives_the_same_path(raw: bytes) -> None:
    """Access rules cannot be dodged by escaping what needs no escape."""
    spelled = b"".join(b"%%%02x" % byte for byte in raw)
    try:
        path = normalise(quote_from_bytes(raw, safe="").encode(), "app")
    except Invalid:
        with pytest.raises(Invalid):
            normalise(spelled, "app")
    else:
        assert normalise(spelled, "app") == path


@pytest.mark.parametrize(
    ("method", "path"),
    [
        (b"", b"/"),
        (b"/", b"/"),
        (b"neworder", b"/neworder"),
        (b"neworder/", b"/neworder"),
        (b"a//b", b"/a/b"),
        (b"admin%2F..%2Fpublic", b"/public"),
        (b"..%2F..%2Fetc", b"/etc"),
        (b"a/./b", b"/a/b"),
        (b".well-known/x", b"/.well-known/x"),
        (b"with%20space", b"/with%20space"),
        (b'a"b', b"/a%22b"),
        (b"a*b", b"/a*b"),
        (b"a\\b", b"/a%5Cb"),
        (b"caf%C3%A9", b"/caf%C3%A9"),
        (b"a%3Bb=c", b"/a;b=c"),
    ],
)
def test_known_paths(method: bytes, path: bytes) -> None:
    """The cases that the reference pins down."""
    assert normalise(method, "app") == path


@pytest.mark.parametrize("method", [b"test%25stream", b"a%23b", b"a%3Fb", b"a%00", b"a%0d%0ab"])
def test_paths_that_cannot_be(method: bytes) -> None:
    """They are refused with the code of invocation, and never reach the app."""
    with pytest.raises(Invalid, match="failed to invoke, id: orders") as refused:
        normalise(method, "orders")
    assert refused.value.code == "ERR_DIRECT_INVOKE"
    assert not refused.value.reached


# App ids.

SEGMENT = st.from_regex(r"\A[A-Za-z0-9_-]{1,10}\Z")


@given(SEGMENT, st.none() | SEGMENT)
def test_app_ids(app_id: str, namespace: str | None) -> None:
    """With or without a namespace."""
    name = app_id if namespace is None else f"{app_id}.{namespace}"
    assert split_app_id(name) == (app_id, namespace or "")


@pytest.mark.parametrize(
    "name",
    ["", ".", "a.", ".a", "a.b.c", "a b", "a/b", "a\n", "a.b\n", "é", "a:1", "a%20", "${x}", "a\0"],
)
def test_no_app_ids(name: str) -> None:
    """Empty parts, two dots and other characters are refused."""
    with pytest.raises(Invalid) as refused:
        split_app_id(name)
    assert refused.value.code == "ERR_DIRECT_INVOKE"


# Target forms.


@pytest.mark.parametrize(
    ("rest", "address"),
    [
        (b"app/method/a/b", Address("app", b"a/b")),
        (b"app.ns/method/a", Address("app.ns", b"a")),
        (b"app/method/", Address("app", b"")),
        (b"app/method", Address("app", b"")),
        (b"app/method/a/method/b", Address("app", b"a/method/b")),
        (b"app/method//method/b", Address("app", b"/method/b")),
        (b"http://host:80/method/p", Address("http://host:80", b"p", is_url=True)),
        (b"http:/host:80/method/p", Address("http://host:80", b"p", is_url=True)),
        (b"HTTPS%3A%2F%2Fhost%3A443/method/p", Address("https://host:443", b"p", is_url=True)),
        (b"http://host/prefix/method/p", Address("http://host/prefix", b"p", is_url=True)),
        (b"ftp://host/method/p", Address("ftp://host", b"p")),
        (b"my%20endpoint/method/p", Address("my endpoint", b"p")),
    ],
)
def test_addresses_in_paths(rest: bytes, address: Address) -> None:
    """The first ``/method/`` divides the target from the method."""
    assert from_path(rest) == address


@pytest.mark.parametrize("rest", [b"", b"app", b"app/", b"/method/x", b"app/methods/x", b"method"])
def test_no_addresses_in_paths(rest: bytes) -> None:
    """Without target or ``/method/`` there is nothing to call."""
    assert from_path(rest) is None


@given(st.binary(max_size=60))
def test_any_path_is_read_or_none(rest: bytes) -> None:
    """No bytes crash it."""
    from_path(rest)


def basic(text: bytes, scheme: bytes = b"Basic") -> bytes:
    return scheme + b" " + b64encode(text)


@pytest.mark.parametrize(
    ("authorization", "app_id"),
    [
        (basic(b"dapr-app-id:orders"), "orders"),
        (basic(b"dapr-app-id:orders.ns", b"basic"), "orders.ns"),
        (basic(b"dapr-app-id:a:b"), "a:b"),
        (basic(b"dapr-app-id:"), None),
        (basic(b"dapr-app-id"), None),
        (basic(b"user:orders"), None),
        (basic(b"dapr-app-id:orders", b"Bearer"), None),
        (b"Basic ZGFwci1hcHAtaWQ6b3JkZXJz!", None),
        (b"Basic \xff\xfe", None),
        (b"Basic", None),
        (b"", None),
    ],
)
def test_app_ids_in_authorization(authorization: bytes, app_id: str | None) -> None:
    """Only the user ``dapr-app-id`` names a target; anything else is the app's own business."""
    assert from_basic(authorization) == app_id


@given(st.binary(max_size=40) | st.binary(max_size=40).map(b"Basic ".__add__))
def test_any_authorization_is_read_or_none(authorization: bytes) -> None:
    """No bytes crash it."""
    from_basic(authorization)
