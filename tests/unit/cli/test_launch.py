"""What an app and its runtime are started with."""

import sys
from pathlib import Path

import pytest

from pillion.errors import Invalid
from pillion_cli.supervise.launch import Wanted, free_ports, prepare


@pytest.fixture
def environ(tmp_path):
    return {"PILLION_HOME": str(tmp_path / "home"), "PATH": "/bin"}


def wanted(tmp_path, *, command=("app",), env=None, title="", **flags):
    given = {name.replace("_", "-"): [text] for name, text in flags.items()}
    return Wanted(flags=given, command=command, directory=tmp_path, env=env or {}, title=title)


def test_ports_that_are_not_given_are_free_and_differ(tmp_path, environ):
    """Three apps started together get nine different ports."""
    launches = prepare([wanted(tmp_path, app_id=name) for name in "abc"], environ)
    ports = [
        port
        for launch in launches
        for port in (
            launch.options.http_port,
            launch.options.grpc_port,
            launch.options.metrics_port,
        )
    ]
    assert len(set(ports)) == 9
    assert all(ports)


def test_free_ports_keep_off_those_that_are_taken():
    """A port that another app is to get is not handed out."""
    first = free_ports(50)
    assert set(free_ports(50, first)).isdisjoint(first)


def test_given_ports_stay_and_metrics_may_be_off(tmp_path, environ):
    """What the command line says is what the runtime gets."""
    [launch] = prepare(
        [wanted(tmp_path, app_id="a", dapr_http_port="3111", enable_metrics="false")], environ
    )
    assert launch.options.http_port == 3111
    assert launch.options.metrics_port is None
    assert "DAPR_METRICS_PORT" not in launch.app_env


def test_the_runtime_is_started_away_from_the_modules_of_the_app(tmp_path, environ):
    """A yaml.py beside the app must not become the runtime's yaml."""
    [launch] = prepare([wanted(tmp_path, app_id="a")], environ)
    assert launch.runtime_command[:4] == [sys.executable, "-P", "-m", "pillion"]
    assert "--app-id=a" in launch.runtime_command


def test_an_app_without_a_name_gets_one(tmp_path, environ):
    """Two of them get different ones."""
    names = {
        launch.options.app_id for launch in prepare([wanted(tmp_path), wanted(tmp_path)], environ)
    }
    assert len(names) == 2


def test_the_app_is_told_where_its_runtime_is(tmp_path, environ):
    """Dapr's names and ours, and the endpoint that SDKs take first."""
    environ |= {
        "DAPR_HTTP_ENDPOINT": "http://elsewhere",
        "DAPR_GRPC_ENDPOINT": "elsewhere",
        "X": "1",
    }
    [launch] = prepare([wanted(tmp_path, app_id="a", app_port="7", dapr_http_port="8")], environ)
    env = launch.app_env
    assert {name: env[name] for name in env if name.startswith(("APP_", "DAPR_"))} == {
        "APP_ID": "a",
        "APP_PORT": "7",
        "APP_PROTOCOL": "http",
        "APP_CHANNEL_ADDRESS": "127.0.0.1",
        "DAPR_HTTP_PORT": "8",
        "DAPR_HTTP_ENDPOINT": "http://127.0.0.1:8",
        "DAPR_GRPC_PORT": str(launch.options.grpc_port),
        "DAPR_METRICS_PORT": str(launch.options.metrics_port),
    }
    for name in ("APP_ID", "APP_PORT", "APP_PROTOCOL", "APP_CHANNEL_ADDRESS"):
        assert env[f"PILLION_{name}"] == env[name]
    for name in ("HTTP_PORT", "HTTP_ENDPOINT", "GRPC_PORT", "METRICS_PORT"):
        assert env[f"PILLION_{name}"] == env[f"DAPR_{name}"]
    assert (env["X"], env["PATH"]) == ("1", "/bin")


def test_an_app_without_a_server_has_no_port(tmp_path, environ):
    """APP_PORT is not set to 0."""
    [launch] = prepare([wanted(tmp_path, app_id="a")], environ)
    assert "APP_PORT" not in launch.app_env


def test_the_endpoint_follows_the_listen_address(tmp_path, environ):
    """With an address of its own, 127.0.0.1 would lead nowhere."""
    for address, endpoint in (
        ("10.1.2.3", "http://10.1.2.3:8"),
        ("::1", "http://[::1]:8"),
        ("0.0.0.0", "http://127.0.0.1:8"),
    ):
        [launch] = prepare(
            [wanted(tmp_path, app_id="a", dapr_http_port="8", dapr_listen_addresses=address)],
            environ,
        )
        assert launch.app_env["DAPR_HTTP_ENDPOINT"] == endpoint


def test_a_unix_socket_takes_the_place_of_the_port(tmp_path, environ):
    """The app is told the socket, and no port that nobody listens on."""
    environ["DAPR_HTTP_PORT"] = "1"
    [launch] = prepare([wanted(tmp_path, app_id="a", unix_domain_socket=".")], environ)
    assert launch.app_env["PILLION_HTTP_SOCKET"] == str(tmp_path / "dapr-a-http.socket")
    assert "DAPR_HTTP_PORT" not in launch.app_env


def test_nothing_is_open_to_the_network(tmp_path, environ):
    """Beside an app on somebody's machine the API and the metrics listen on loopback only."""
    [launch] = prepare([wanted(tmp_path, app_id="a")], environ)
    assert launch.options.listen_addresses == ("127.0.0.1",)
    assert launch.options.metrics_listen_address == "127.0.0.1"


def test_tokens_reach_both_sides_under_both_names(tmp_path, environ):
    """An SDK finds the token under Dapr's name when only ours was set."""
    environ |= {"PILLION_API_TOKEN": "t", "PILLION_APP_API_TOKEN": "u"}
    [launch] = prepare([wanted(tmp_path, app_id="a")], environ)
    assert launch.app_env["DAPR_API_TOKEN"] == launch.app_env["PILLION_API_TOKEN"] == "t"
    assert launch.app_env["APP_API_TOKEN"] == "u"
    assert launch.options.api_token == "t"
    assert not any(text.partition("=")[2] == "t" for text in launch.runtime_command)


def test_the_variables_of_the_app_win_and_the_runtime_sees_only_its_own(tmp_path, environ):
    """PYTHONPATH is the app's business; a token is the runtime's as well."""
    env = {"PYTHONPATH": "lib", "PATH": "/own", "DAPR_API_TOKEN": "t", "NAMESPACE": "prod"}
    [launch] = prepare([wanted(tmp_path, app_id="a", env=env)], environ)
    assert launch.app_env["PATH"] == "/own"
    assert launch.app_env["PYTHONPATH"] == "lib"
    assert launch.runtime_env["PATH"] == "/bin"
    assert "PYTHONPATH" not in launch.runtime_env
    assert launch.options.api_token == "t"
    assert launch.app_env["PILLION_NAMESPACE"] == "prod"


def test_resources_of_the_home_are_the_default(tmp_path, environ):
    """As with Dapr, but below our home."""
    home = tmp_path / "home"
    (home / "components").mkdir(parents=True)
    (home / "config.yaml").touch()
    [launch] = prepare([wanted(tmp_path, app_id="a")], environ)
    assert launch.options.resources_paths == (home / "components",)
    assert launch.options.config_files == (home / "config.yaml",)
    [launch] = prepare([wanted(tmp_path, app_id="a", resources_path=".")], environ)
    assert launch.options.resources_paths == (Path(f"{tmp_path}/."),)


def test_two_apps_on_one_port_are_refused(tmp_path, environ):
    """The message says which app has it."""
    pair = [
        wanted(tmp_path, title="a", app_id="a", app_port="6001"),
        wanted(tmp_path, title="b", app_id="b", dapr_http_port="6001"),
    ]
    with pytest.raises(Invalid, match=r"^b: --dapr-http-port 6001 is already used by a$"):
        prepare(pair, environ)


def test_a_mistake_in_one_of_several_names_the_app(tmp_path, environ):
    """Among five apps one wants to know which."""
    with pytest.raises(Invalid, match=r"^b: --app-port must be a port"):
        prepare([wanted(tmp_path, title="b", app_id="b", app_port="x")], environ)
