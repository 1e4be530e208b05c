"""HTTPEndpoints, beyond what the golden files show."""

from __future__ import annotations

from pathlib import Path

import pytest

from pillion.config.http_endpoint import HTTPEndpoint
from pillion.config.load import load_resources
from pillion.config.model._references import refused_variable
from pillion.errors import Invalid


def load(folder: Path, url: str) -> HTTPEndpoint:
    (folder / "a.yaml").write_text(
        "apiVersion: dapr.io/v1alpha1\nkind: HTTPEndpoint\nmetadata: {name: a}\n"
        f"spec: {{baseUrl: '{url}'}}\n",
        encoding="utf-8",
    )
    resources = load_resources([folder], app_id="a", namespace="default", environ={})
    return resources.of(HTTPEndpoint)[0]


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://a", "http://a"),
        ("HTTP://A.B/C/", "http://a.b/C"),
        ("https://a:443", "https://a:443"),
        ("http://a:/x", "http://a/x"),
        ("http://127.0.0.1:8080//", "http://127.0.0.1:8080"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
        ("http://[FE80::1]", "http://[fe80::1]"),
        ("http://my_service.local./v1/%20(a)", "http://my_service.local./v1/%20(a)"),
        ("http://a:65535", "http://a:65535"),
    ],
)
def test_good_urls(tmp_path: Path, url: str, base: str) -> None:
    """Base URLs lose their slash at the end, and capitals where they mean nothing."""
    assert load(tmp_path, url).base_url == base


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a",
        "//a",
        "http:/a",
        "http:///x",
        "http://:80",
        "http://a:0",
        "http://a:65536",
        "http://a:b",
        "http://a b",
        "http://a\\b",
        "http://-a",
        "http://a-",
        "http://[a]",
        "http://::1",
        "http://a/%zz",
        "http://a/\t",
        "http://a#b",
        "http://a?b",
        "http://a/b?c",
        "http://u@a",
        "ws://a",
        "http://a%2fb",
        "http://[::1]x",
        "http://é",
        "http://a/é",
        "javascript:alert(1)",
    ],
)
def test_bad_urls(tmp_path: Path, url: str) -> None:
    """Everything that is no plain base URL is refused with what one looks like."""
    with pytest.raises(Invalid, match=r"spec.baseUrl: must be http\(s\)://host"):
        load(tmp_path, url)


@pytest.mark.parametrize(
    ("name", "environ", "allowed"),
    [
        ("HOME", {}, True),
        ("APP_API_TOKEN", {}, False),
        ("App_Api_Token", {}, False),
        ("DAPR_X", {}, False),
        ("dapr_x", {}, False),
        ("MY_DAPR_X", {}, True),
        ("A B", {}, False),
        ("", {}, False),
        ("A", {"DAPR_ENV_KEYS": "A B"}, True),
        ("b", {"DAPR_ENV_KEYS": "A B"}, True),
        ("C", {"DAPR_ENV_KEYS": "A B"}, False),
        ("AA", {"DAPR_ENV_KEYS": "AAA"}, False),
        ("C", {"DAPR_ENV_KEYS": ""}, True),
        ("DAPR_X", {"DAPR_ENV_KEYS": "DAPR_X"}, False),
    ],
)
def test_variables_that_may_be_referred_to(
    name: str, environ: dict[str, str], allowed: bool
) -> None:
    """The runtime's own variables are out of reach, and an allow list holds."""
    assert (refused_variable(name, environ) is None) == allowed
