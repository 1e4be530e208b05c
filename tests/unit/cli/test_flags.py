"""The runtime's flags and what becomes of them."""

import contextlib
import dataclasses
from pathlib import Path

import pytest
from hypothesis import given as every
from hypothesis import strategies as st

from pillion import flags
from pillion.errors import Invalid
from pillion.goflags import Parser
from pillion.options import AppHealthOptions, Options

MiB = 1024 * 1024


def parsed(*line, environ=None):
    """Return the options of a command line."""
    parser = Parser("pillion sidecar", "")
    parser.add_flags(flags.FLAGS)
    given = flags.given(parser.parse(line))
    return flags.options(given, {} if environ is None else environ)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.yaml").touch()
    return tmp_path


DAPRD = [
    # flag, daprd's default as text, the field it fills, the default there, another text, its value
    ("app-port", "0", "app_port", 0, "8000", 8000),
    ("app-protocol", "http", "app_protocol", "http", "https", "https"),
    ("app-channel-address", "127.0.0.1", "app_host", "127.0.0.1", "::1", "::1"),
    ("dapr-http-port", "3500", "http_port", 3500, "0", 0),
    ("dapr-grpc-port", "50001", "grpc_port", 50001, "7", 7),
    ("dapr-internal-grpc-port", "0", "mesh_port", 0, "7", 7),
    ("dapr-public-port", "", "public_port", None, "3501", 3501),
    ("dapr-listen-addresses", "", "listen_addresses", (), "::1, 10.0.0.1", ("::1", "10.0.0.1")),
    ("dapr-public-listen-address", "", "public_listen_address", "", "::1", "::1"),
    ("dapr-internal-grpc-listen-address", "", "mesh_listen_address", "", "::1", "::1"),
    ("metrics-port", "9090", "metrics_port", 9090, "0", 0),
    ("enable-metrics", "true", "metrics_port", 9090, "false", None),
    ("metrics-listen-address", "", "metrics_listen_address", "", "::1", "::1"),
    ("allowed-origins", "", "allowed_origins", (), "*", ("*",)),
    ("app-max-concurrency", "-1", "app_max_concurrency", -1, "4", 4),
    ("max-body-size", "4Mi", "max_body_size", 4 * MiB, "-1", -1),
    ("dapr-http-max-request-size", "", "max_body_size", 4 * MiB, "16", 16 * MiB),
    ("read-buffer-size", "4Ki", "read_buffer_size", 4096, "64Ki", 65536),
    ("dapr-http-read-buffer-size", "", "read_buffer_size", 4096, "8", 8192),
    ("dapr-graceful-shutdown-seconds", "5", "graceful_shutdown", 5.0, "9", 9.0),
    ("dapr-block-shutdown-duration", "0", "block_shutdown", 0.0, "1m30s", 90.0),
    ("enable-api-logging", "false", "api_logging", False, "true", True),
    ("enable-app-health-check", "false", "app_health", None, "true", AppHealthOptions()),
    ("disable-init-endpoints", "", "disable_init_endpoints", frozenset(), "config", {"config"}),
    ("log-level", "info", "log_level", "info", "warn", "warning"),
    ("log-as-json", "false", "log_as_json", False, "true", True),
    ("mode", "standalone", None, None, "standalone", None),
    # ours
    ("label", "", "labels", {}, "version=v1", {"version": "v1"}),
    ("load-balancer", "peak-ewma", "load_balancer", "peak-ewma", "random", "random"),
    ("lease", "5s", "lease", 5.0, "500ms", 0.5),
    ("namespace", "default", "namespace", "default", "prod", "prod"),
    ("trust-domain", "public", "trust_domain", "public", "corp.example", "corp.example"),
]

WITHOUT_EFFECT = [
    "profile-port",
    "enable-profiling",
    "placement-host-address",
    "scheduler-host-address",
    "scheduler-job-streams",
    "actors-service",
    "actors-disseminate-timeout",
    "hot-reload-reconcile-interval",
    "app-binding-options-timeout",
    "disable-builtin-k8s-secret-store",
    "enable-mtls",
    "sentry-address",
    "control-plane-address",
    "control-plane-namespace",
    "control-plane-trust-domain",
    "trust-anchors-file",
]


@pytest.mark.parametrize(("flag", "default", "field", "is_default", "text", "value"), DAPRD)
def test_each_flag_with_its_default_and_another_value(
    flag, default, field, is_default, text, value
):
    """Every flag of daprd is there with daprd's default, and reaches the options."""
    assert flags.BY_NAME[flag].default == default
    if field is not None:
        assert getattr(parsed("--app-id=x"), field) == is_default
        assert getattr(parsed("--app-id=x", f"--{flag}={text}"), field) == value
    else:
        parsed("--app-id=x", f"--{flag}={text}")


@pytest.mark.parametrize("flag", WITHOUT_EFFECT)
def test_flags_without_a_meaning_are_accepted_with_a_notice(flag):
    """Scripts for daprd run unchanged, and at debug level the runtime says what it ignored."""
    parser = Parser("pillion sidecar", "")
    parser.add_flags(flags.FLAGS)
    line = [f"--{flag}"] if flags.BY_NAME[flag].switch else [f"--{flag}", "7"]
    given = flags.given(parser.parse(["--app-id", "x", *line]))
    assert flags.notices(given) == [f"--{flag} has no effect here"]
    assert flags.options(given, {}) == parsed("--app-id=x")


def test_every_flag_of_the_table_is_looked_at_here():
    """A flag that is added is also tested."""
    elsewhere = {"app-id", "config", "home", "resources-path", "unix-domain-socket", "app-ssl"}
    elsewhere |= {name for name in flags.BY_NAME if name.startswith("app-health-")}
    elsewhere |= {"runtime-path", "reminders-service"}
    tested = {row[0] for row in DAPRD} | set(WITHOUT_EFFECT) | elsewhere
    assert set(flags.BY_NAME) == tested


def test_without_flags_the_options_are_their_own_defaults():
    """The defaults of the flags and of Options cannot drift apart."""
    assert parsed("--app-id=x") == Options(app_id="x")


def test_paths_and_repeated_flags(folder):
    """Folders and files must exist, and several of them keep their order."""
    found = parsed(
        *(
            "-a",
            "x",
            "-d",
            str(folder),
            "--components-path",
            "/",
            "--config",
            f"{folder}/config.yaml",
        ),
        *("--unix-domain-socket", str(folder), "--home", f"{folder}/home"),
        *("--label", "a=1", "--label", "b=x=y", "--label", "a=2"),
    )
    assert found.resources_paths == (folder, Path("/"))
    assert found.config_files == (folder / "config.yaml",)
    assert found.unix_socket_dir == folder
    assert found.home == folder / "home"
    assert found.labels == {"a": "2", "b": "x=y"}


def test_app_health_in_daprd_units_and_with_units():
    """Plain numbers are seconds and milliseconds as in daprd; durations may say their unit."""
    assert parsed(
        *("-a", "x", "--enable-app-health-check", "--app-health-check-path", "well"),
        *("--app-health-probe-interval", "2", "--app-health-probe-timeout", "250"),
        *("--app-health-threshold", "7"),
    ).app_health == AppHealthOptions(path="/well", interval=2.0, timeout=0.25, threshold=7)
    assert parsed(
        *("-a", "x", "--enable-app-health-check", "--app-health-probe-interval=1m"),
        *("--app-health-probe-timeout=5s", "--app-health-threshold=0"),
    ).app_health == AppHealthOptions(interval=60.0, timeout=5.0, threshold=3)


def test_app_ssl_is_https():
    """The deprecated switch still works."""
    assert parsed("-a", "x", "--app-ssl").app_protocol == "https"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "--app-id is needed: the name by which others call the app"),
        ("--app-id=", "--app-id is needed: the name by which others call the app"),
        (
            "-a x.y",
            "--app-id must be up to 128 letters, digits, '-' and '_', without '.', not 'x.y'",
        ),
        ("-a x -p 65536", "--app-port must be a port from 0 to 65535, not '65536'"),
        ("-a x -p -1", "--app-port must be a port from 0 to 65535, not '-1'"),
        ("-a x -p 3500", "--app-port: port 3500 is also --dapr-http-port"),
        ("-a x -p 9090", "--app-port: port 9090 is also --metrics-port"),
        ("-a x -p 50001", "--app-port: port 50001 is also --dapr-grpc-port"),
        ("-a x -p 7 --mesh-port 7", "--app-port: port 7 is also --dapr-internal-grpc-port"),
        ("-a x -H 7 -M 7", "--metrics-port: port 7 is also --dapr-http-port"),
        ("-a x -d /nowhere", "--resources-path must be a folder that exists, not '/nowhere'"),
        ("-a x -c /nowhere", "--config must be a file that exists, not '/nowhere'"),
        ("-a x -u /nowhere", "--unix-domain-socket must be a folder that exists, not '/nowhere'"),
        (
            "-a x -P grpc",
            "--app-protocol must be http or https (others are not supported yet), not 'grpc'",
        ),
        ("-a x -P ftp", "--app-protocol must be one of http, https, not 'ftp'"),
        (
            "-a x --mode kubernetes",
            "--mode must be standalone (kubernetes is not supported yet), not 'kubernetes'",
        ),
        ("-a x --label v1", "--label must be key=value, not 'v1'"),
        ("-a x --label =v1", "--label must be key=value, not '=v1'"),
        ("-a x --lease 0s", "--lease must be a duration above 0, not '0s'"),
        (
            "-a x --load-balancer best",
            "--load-balancer must be one of peak-ewma, round-robin, random, not 'best'",
        ),
        ("-a x --log-as-json=maybe", "--log-as-json must be true or false, not 'maybe'"),
        (
            "-a x --max-body-size 0",
            "--max-body-size must be a size above 0, or -1 for no limit, not '0'",
        ),
        (
            "-a x --read-buffer-size -1",
            "--read-buffer-size must be a size above 0: header blocks are kept in memory, not '-1'",
        ),
        (
            "-a x --namespace a/b",
            "--namespace must be letters, digits, '-', '_' and '.', not 'a/b'",
        ),
        (
            "-a x --disable-init-endpoints all",
            "--disable-init-endpoints must be one of config, subscribe, not 'all'",
        ),
        (
            "-a x --enable-app-health-check --app-health-probe-timeout 5s",
            "--app-health-probe-timeout must be shorter than --app-health-probe-interval",
        ),
    ],
)  # fmt: skip
def test_a_bad_value_is_one_clear_line(line, message):
    """The message names the flag, what it wants and what it got."""
    with pytest.raises(Invalid) as caught:
        parsed(*line.split())
    assert caught.value.message == message


def test_a_port_of_a_listener_that_is_off_is_free():
    """No metrics, no clash with their port; a Unix socket takes no HTTP port."""
    assert parsed("-a", "x", "-p", "9090", "--enable-metrics=false").app_port == 9090
    assert parsed("-a", "x", "-p", "3500", "-u", "/").app_port == 3500


def test_variables_and_their_twins():
    """PILLION_* wins over its twin; a flag wins over both."""
    twins = {
        "DAPR_API_TOKEN": "d",
        "APP_API_TOKEN": "a",
        "NAMESPACE": "n",
        "DAPR_HOST_IP": "1.1.1.1",
    }
    found = parsed("-a", "x", environ=twins)
    assert (found.api_token, found.app_api_token) == ("d", "a")
    assert (found.namespace, found.host_ip) == ("n", "1.1.1.1")
    ours = {
        "PILLION_API_TOKEN": "D",
        "PILLION_APP_API_TOKEN": "A",
        "PILLION_NAMESPACE": "N",
        "PILLION_HOST_IP": "2.2.2.2",
        "PILLION_HOME": "/srv/pillion",
        "PILLION_APP_COMMAND": "python app.py",
    }
    found = parsed("-a", "x", environ={**twins, **ours})
    assert (found.api_token, found.app_api_token) == ("D", "A")
    assert (found.namespace, found.host_ip) == ("N", "2.2.2.2")
    assert (found.home, found.command) == (Path("/srv/pillion"), "python app.py")
    found = parsed("-a", "x", "--namespace=f", "--home=/h", environ=ours)
    assert (found.namespace, found.home) == ("f", Path("/h"))


def test_a_bad_variable_is_named():
    """The message says which variable, and no secret is in it."""
    with pytest.raises(Invalid, match=r"^NAMESPACE must be letters.*not 'a b'$"):
        parsed("-a", "x", environ={"NAMESPACE": "a b", "DAPR_API_TOKEN": "secret"})


@every(st.integers(1, 2**40), st.sampled_from(["", "k", "M", "G", "Ki", "Mi", "Gi"]))
def test_sizes_count_as_they_say(number, suffix):
    """A number and a suffix is that number of those."""
    factor = {"k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
    expected = number * factor.get(suffix, 1)
    if expected < 2**63:
        assert parsed("-a", "x", f"--max-body-size={number}{suffix}").max_body_size == expected


@every(st.integers(-(2**31), -1))
def test_every_negative_body_size_is_no_limit(number):
    """-1 is what people write, and the others mean nothing else."""
    assert parsed("-a", "x", f"--max-body-size={number}").max_body_size == -1
    assert parsed("-a", "x", f"--dapr-http-max-request-size={number}").max_body_size == -1


@every(st.text(max_size=12))
def test_any_text_is_a_size_or_refused(text):
    """Nothing but Invalid comes out of a bad size."""
    size = 1
    with contextlib.suppress(Invalid):
        size = parsed("-a", "x", f"--max-body-size={text}").max_body_size
    assert size == -1 or size > 0


@every(st.lists(st.sampled_from([row for row in DAPRD if row[2]]), unique_by=lambda row: row[0]))
def test_the_command_line_can_be_written_back(rows):
    """What pillion run hands to the sidecar means what was given to pillion run."""
    given = {"app-id": ["x"], **{row[0]: [row[4]] for row in rows}}
    if given.get("metrics-port") == ["0"] and "dapr-http-port" in given:
        given.pop("metrics-port")
    ports = [given.get(name) for name in ("dapr-grpc-port", "dapr-internal-grpc-port")]
    if ports[0] is not None and ports[0] == ports[1]:
        given.pop("dapr-grpc-port")
    parser = Parser("pillion sidecar", "")
    parser.add_flags(flags.FLAGS)
    again = flags.given(parser.parse(flags.arguments(given)))
    assert again == given
    assert flags.options(again, {}) == flags.options(given, {})


def test_the_options_have_no_field_without_a_way_to_set_it():
    """Each field of Options is set by a flag or a variable."""
    set_by_table = {row[2] for row in DAPRD if row[2]}
    elsewhere = {
        *("app_id", "home", "unix_socket_dir", "resources_paths", "config_files"),
        *("host_ip", "api_token", "app_api_token", "command"),
    }
    assert {field.name for field in dataclasses.fields(Options)} == set_by_table | elsewhere
