"""Run files: Dapr's multi-app format and our additions."""

import io
import time
from pathlib import Path

import pytest

from pillion import flags
from pillion.errors import Invalid
from pillion_cli import runfile
from pillion_cli.supervise.launch import Destination, prepare

EVERY_FIELD = """
version: 1
name: shop
common:
  resourcesPath: ./components
  configFilePath: ./config.yaml
  logLevel: debug
  env:
    DEBUG: true
    BOTH: common
apps:
  - appDirPath: ./order-processor/
    appPort: 6002
    appProtocol: http
    command: ["python3", "app.py", 7]
    resourcesPaths: [own]
    configFilePath: own.yaml
    env: {BOTH: app, EMPTY: }
    daprHTTPPort: 3511
    daprGRPCPort: 3512
    daprInternalGRPCPort: 3513
    metricsPort: 3514
    profilePort: 3515
    unixDomainSocket: run
    appChannelAddress: localhost
    apiListenAddresses: 0.0.0.0
    enableProfiling: true
    logLevel: warn
    appMaxConcurrency: 1
    placementHostAddress: 127.0.0.1:50005
    schedulerHostAddress: 127.0.0.1:50006
    appSSL: true
    maxBodySize: 16Mi
    readBufferSize: 8Ki
    enableAppHealthCheck: true
    appHealthCheckPath: /well
    appHealthProbeInterval: 3
    appHealthProbeTimeout: 200
    appHealthThreshold: 2
    enableApiLogging: true
    runtimePath: ~/nowhere
    daprdLogDestination: fileAndConsole
    appLogDestination: console
    containerImage: image
    containerImagePullPolicy: Always
    createService: true
  - appID: checkout
    appDirPath: checkout
"""


@pytest.fixture
def tree(tmp_path):
    """The folders and files that the run file above names."""
    for folder in ("components", "order-processor/own", "order-processor/run", "checkout"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "config.yaml").touch()
    (tmp_path / "order-processor/own.yaml").touch()
    return tmp_path


def read(tree, text, now=0.0):
    (tree / "dapr.yaml").write_text(text)
    return runfile.read(str(tree), now)


def one(tree, fields, common=""):
    """Return the only Wanted of a file with one app."""
    start = f"version: 1\n{common}apps:\n- appDirPath: checkout\n"
    [wanted] = read(tree, start + "".join(f"  {line}\n" for line in fields)).wanted
    return wanted


def test_every_field_of_the_format(tree):
    """All fields of Dapr's format reach the flag they stand for."""
    found = read(tree, EVERY_FIELD)
    first = found.wanted[0]
    app = tree / "order-processor"
    assert (found.name, found.path) == ("shop", str(tree / "dapr.yaml"))
    assert first.command == ["python3", "app.py", "7"]
    assert first.directory == app
    assert first.env == {"DEBUG": "true", "BOTH": "app", "EMPTY": ""}
    assert first.flags == {
        "app-id": ["order-processor"],
        "app-port": ["6002"],
        "app-protocol": ["http"],
        "app-channel-address": ["localhost"],
        "dapr-http-port": ["3511"],
        "dapr-grpc-port": ["3512"],
        "dapr-internal-grpc-port": ["3513"],
        "metrics-port": ["3514"],
        "profile-port": ["3515"],
        "unix-domain-socket": ["run"],
        "dapr-listen-addresses": ["0.0.0.0"],
        "enable-profiling": ["true"],
        "log-level": ["warn"],
        "app-max-concurrency": ["1"],
        "placement-host-address": ["127.0.0.1:50005"],
        "scheduler-host-address": ["127.0.0.1:50006"],
        "app-ssl": ["true"],
        "max-body-size": ["16Mi"],
        "read-buffer-size": ["8Ki"],
        "enable-app-health-check": ["true"],
        "app-health-check-path": ["/well"],
        "app-health-probe-interval": ["3"],
        "app-health-probe-timeout": ["200"],
        "app-health-threshold": ["2"],
        "enable-api-logging": ["true"],
        "runtime-path": ["~/nowhere"],
        "resources-path": [str(app / "own")],
        "config": [str(app / "own.yaml")],
    }
    stamp = time.strftime("%Y%m%d%H%M%S", time.localtime(0))
    log = app / f".dapr/logs/order-processor_daprd_{stamp}.log"
    assert first.runtime_log == Destination(console=True, file=log)
    assert first.app_log == Destination(console=True, file=None)


def test_defaults_and_what_is_common(tree):
    """An app without fields has its folder's name, the common fields, and Dapr's log rules."""
    second = read(tree, EVERY_FIELD).wanted[1]
    assert second.command == []
    assert second.env == {"DEBUG": "true", "BOTH": "common"}
    assert second.flags == {
        "app-id": ["checkout"],
        "log-level": ["debug"],
        "resources-path": [str(tree / "components")],
        "config": [str(tree / "config.yaml")],
    }
    assert second.runtime_log.console is False
    assert second.app_log.console is True
    assert second.app_log.file is not None
    assert second.app_log.file.parent == tree / "checkout/.dapr/logs"


def test_what_is_read_can_be_started(tree, tmp_path):
    """The runtime takes all of it."""
    launches = prepare(read(tree, EVERY_FIELD).wanted, {"PILLION_HOME": str(tmp_path / "home")})
    assert launches[0].options.unix_socket_dir == tree / "order-processor/run"
    assert launches[0].options.app_protocol == "https"
    assert launches[0].options.read_buffer_size == 8192
    assert launches[1].options.log_level == "debug"


def test_resources_precedence(tree):
    """The app's own, then <app>/.dapr, then the common ones."""
    common = "common: {resourcesPath: components, configFilePath: config.yaml}\n"
    shared = one(tree, [], common)
    assert shared.flags["resources-path"] == [str(tree / "components")]
    local = tree / "checkout/.dapr"
    (local / "resources").mkdir(parents=True)
    (local / "config.yaml").touch()
    beside = one(tree, [], common)
    assert beside.flags["resources-path"] == [str(local / "resources")]
    assert beside.flags["config"] == [str(local / "config.yaml")]
    own = one(tree, ["resourcesPath: ..", "configFilePath: ../config.yaml"], common)
    assert own.flags["resources-path"] == [str(tree / "checkout/..")]
    assert own.flags["config"] == [str(tree / "checkout/../config.yaml")]


def test_our_additions(tree):
    """Labels, balancer, namespace and trust domain, per app and in common."""
    common = "common: {labels: {version: v1, zone: a}, namespace: prod}\n"
    found = one(
        tree,
        ["labels: {version: v2}", "loadBalancer: round-robin", "trustDomain: corp"],
        common,
    )
    assert found.flags["label"] == ["version=v2", "zone=a"]
    assert found.flags["load-balancer"] == ["round-robin"]
    assert found.flags["namespace"] == ["prod"]
    assert found.flags["trust-domain"] == ["corp"]


def test_instances_count_their_ports_up(tree):
    """Each has a title, a number and ports of its own; ports that are not fixed stay free."""
    text = (
        "version: 1\napps:\n- {appDirPath: checkout, appPort: 6000, daprHTTPPort: -1, instances: 3}"
    )
    wanted = read(tree, text).wanted
    assert [each.title for each in wanted] == ["checkout-0", "checkout-1", "checkout-2"]
    assert [each.flags["app-id"] for each in wanted] == [["checkout"]] * 3
    assert [each.flags["app-port"] for each in wanted] == [["6000"], ["6001"], ["6002"]]
    assert [each.flags["dapr-http-port"] for each in wanted] == [["0"]] * 3
    assert [each.env["PILLION_INSTANCE"] for each in wanted] == ["0", "1", "2"]
    assert len({each.app_log.file for each in wanted}) == 3


def test_an_app_overrides_a_common_switch(tree):
    """False in an app is a value, not the lack of one."""
    found = one(tree, ["enableApiLogging: false"], "common: {enableApiLogging: true}\n")
    assert found.flags["enable-api-logging"] == ["false"]


def test_merge_keys_and_anchors(tree):
    """What people do to repeat themselves less works."""
    text = """
version: 1
apps:
  - &first {appDirPath: checkout, logLevel: warn, appPort: 1}
  - {<<: *first, appID: second, appPort: 2}
"""
    second = read(tree, text).wanted[1]
    assert (second.flags["app-id"], second.flags["app-port"]) == (["second"], ["2"])
    assert second.flags["log-level"] == ["warn"]


def test_standard_input(tree, monkeypatch):
    """A file from standard input is relative to where we are, and has no path."""
    text = "version: 1\napps: [{appDirPath: checkout}]"
    monkeypatch.chdir(tree)
    monkeypatch.setattr(runfile, "_input", io.BytesIO(text.encode()).read)
    found = runfile.read("-")
    assert (found.path, found.name) == ("", tree.name)
    assert found.wanted[0].directory == tree / "checkout"


def test_a_file_or_its_folder(tree, monkeypatch):
    """-f takes both, relative or not."""
    read(tree, "version: 1\napps: [{appDirPath: checkout}]")
    monkeypatch.chdir(tree)
    assert runfile.locate(".") == runfile.locate("dapr.yaml") == tree / "dapr.yaml"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "dapr.yaml: is empty"),
        ("[", "dapr.yaml:1: expected the node content, but found '<stream end>'"),
        ("- 1", "dapr.yaml:1: this must be a mapping, and is a list"),
        ("apps: []", "dapr.yaml:1: version is needed: write version: 1"),
        ("version: 2\napps: []", "dapr.yaml:1: version must be 1"),
        ("version: '1'\napps: []", "dapr.yaml:1: version must be a whole number, and is text (1)"),
        ("version: 1", "dapr.yaml:1: there are no apps"),
        ("version: 1\napps: []", "dapr.yaml:2: there are no apps"),
        ("version: 1\napps: {}", "dapr.yaml:2: apps must be a list, and is a mapping"),
        ("version: 1\napps:\n- x", "dapr.yaml:3: this must be a mapping, and is text (x)"),
        (
            "version: 1\napps:\n- appID: x",
            "dapr.yaml:3: appDirPath is needed: the folder the app is started in",
        ),
        (
            "version: 1\napp: []",
            "dapr.yaml:2: there is no field 'app' here; did you mean \"apps\"?",
        ),
        ("version: 1\nversion: 1", "dapr.yaml:2: version is there twice"),
        (
            "version: 1\ncommon: {appID: x}\napps: []",
            "dapr.yaml:2: there is no field 'appID' here",
        ),
    ],
)
def test_a_mistake_in_the_file_has_its_place(tree, text, message):
    """File and line, what is wrong, and what was probably meant."""
    with pytest.raises(Invalid) as caught:
        read(tree, text)
    assert caught.value.message.replace(f"{tree}/", "").startswith(message)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("appprot: http", "there is no field 'appprot' here; did you mean \"appPort\"?"),
        ("appPort: '6002'", "appPort must be a whole number, and is text (6002)"),
        ("appPort: 70000", "appPort must be a port from 0 to 65535"),
        (
            "enableApiLogging: 1",
            "enableApiLogging must be true or false, and is a whole number (1)",
        ),
        ("command: python app.py", "command must be a list, and is text (python app.py)"),
        ("command: [[a]]", "command[0] must be text, and is a list"),
        ("env: [A]", "env must be a mapping, and is a list"),
        ("env: {A: [1]}", "env.A must be text, and is a list"),
        ("appProtocol: grpc", "appProtocol must be http or https (others are not supported yet)"),
        ("maxBodySize: 4X", "maxBodySize must be a quantity such as 512, 64Ki, 4Mi or 1.5G"),
        ("resourcesPath: nowhere", "resourcesPath: there is no folder"),
        ("configFilePath: nowhere", "configFilePath: there is no file"),
        (
            "appLogDestination: disk",
            "appLogDestination must be one of file, console, fileAndConsole",
        ),
        ("instances: 0", "instances must be from 1 to 64"),
        ("instances: 65", "instances must be from 1 to 64"),
        ("loadBalancer: best", "loadBalancer must be one of peak-ewma, round-robin, random"),
        ("appID: a.b", "appID must be up to 128 letters"),
        ("appDirPath: nowhere", "appDirPath is there twice"),
    ],
)  # fmt: skip
def test_a_mistake_in_an_app_has_its_place(tree, line, message):
    """The line of the field, its name as it is in the file, and what it wants."""
    with pytest.raises(Invalid) as caught:
        one(tree, ["logLevel: info", line])
    where, _, problem = caught.value.message.partition("dapr.yaml:")
    assert where == f"{tree}/"
    assert problem.startswith(f"5: {message}")


def test_every_flag_a_field_stands_for_exists():
    """The tables of the run file and of the runtime agree."""
    fields = {**runfile.NUMBERS, **runfile.SWITCHES, **runfile.TEXTS}
    assert set(fields.values()) <= set(flags.BY_NAME)
    assert all(flags.BY_NAME[fields[name]].switch for name in runfile.SWITCHES)


def test_a_missing_file_is_named(tmp_path):
    """Also the dapr.yaml that a folder does not have."""
    with pytest.raises(Invalid, match=r"there is no run file .*/dapr\.yaml$"):
        runfile.locate(str(tmp_path))
    assert Path(tmp_path).is_dir()
