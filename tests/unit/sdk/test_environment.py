"""What the environment says."""

import pytest

from pillion_sdk.environment import Endpoint, api_token, app_port


@pytest.mark.parametrize(
    ("environ", "endpoint"),
    [
        ({}, "http://127.0.0.1:3500"),
        ({"DAPR_HTTP_PORT": "4500"}, "http://127.0.0.1:4500"),
        ({"DAPR_HTTP_PORT": "4500", "PILLION_HTTP_PORT": "4600"}, "http://127.0.0.1:4600"),
        ({"DAPR_HTTP_PORT": "4500", "DAPR_RUNTIME_HOST": "runtime"}, "http://runtime:4500"),
        (
            {"DAPR_HTTP_ENDPOINT": "https://r.example", "DAPR_HTTP_PORT": "1"},
            "https://r.example:443",
        ),
        (
            {"PILLION_HTTP_ENDPOINT": "http://[::1]:9", "DAPR_HTTP_ENDPOINT": "http://x:1"},
            "http://[::1]:9",
        ),
        ({"PILLION_HTTP_ENDPOINT": "unix:///run/p.sock"}, "unix:///run/p.sock"),
        ({"PILLION_HTTP_ENDPOINT": "runtime:7"}, "http://runtime:7"),
        ({"PILLION_HTTP_ENDPOINT": "", "PILLION_HTTP_PORT": ""}, "http://127.0.0.1:3500"),
    ],
)
def test_where_the_runtime_is(environ, endpoint):
    """Endpoints win over ports, ours over Dapr's, and empty is not set."""
    assert str(Endpoint.from_environment(environ)) == endpoint


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"PILLION_HTTP_ENDPOINT": "ftp://x"}, "PILLION_HTTP_ENDPOINT"),
        ({"DAPR_HTTP_ENDPOINT": "http://x/path"}, "DAPR_HTTP_ENDPOINT"),
        ({"DAPR_HTTP_ENDPOINT": "http://x:99999"}, "DAPR_HTTP_ENDPOINT"),
        ({"DAPR_HTTP_ENDPOINT": "http://"}, "DAPR_HTTP_ENDPOINT"),
        ({"PILLION_HTTP_PORT": "http"}, "PILLION_HTTP_PORT"),
        ({"DAPR_HTTP_PORT": "65536"}, "DAPR_HTTP_PORT"),
        ({"DAPR_HTTP_PORT": "-1"}, "DAPR_HTTP_PORT"),
    ],
)
def test_a_malformed_variable_is_named(environ, name):
    """The error says which variable is wrong."""
    with pytest.raises(ValueError, match=name):
        Endpoint.from_environment(environ)


def test_ports_and_tokens():
    """The app's port and the runtime's token, ours before Dapr's."""
    assert app_port({}) == 8000
    assert app_port({"APP_PORT": "6001"}) == 6001
    assert app_port({"APP_PORT": "6001", "PILLION_APP_PORT": "6002"}) == 6002
    with pytest.raises(ValueError, match="APP_PORT is 'x'"):
        app_port({"APP_PORT": "x"})
    assert api_token({}) == ""
    assert api_token({"DAPR_API_TOKEN": "d"}) == "d"
    assert api_token({"DAPR_API_TOKEN": "d", "PILLION_API_TOKEN": "p"}) == "p"
