"""Run files: several apps in one YAML file, in Dapr's multi-app format and with our additions.

``instances: N`` starts an app N times. Each instance gets free ports of its own; a port that the
file fixes, ``appPort`` too, counts up from instance to instance, and the app reads its own from
``APP_PORT``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from pillion import flags
from pillion.config.source import Source
from pillion.errors import Invalid
from pillion_cli.runfields import Fields, compose, fail
from pillion_cli.supervise.launch import Destination, Wanted

FILE_NAME = "dapr.yaml"
FOLDER = ".dapr"
"""Below an app's folder: its resources and configuration, and the logs of its runs."""

MAX_INSTANCES = 64

NUMBERS = {
    "appPort": "app-port",
    "daprHTTPPort": "dapr-http-port",
    "daprGRPCPort": "dapr-grpc-port",
    "daprInternalGRPCPort": "dapr-internal-grpc-port",
    "metricsPort": "metrics-port",
    "profilePort": "profile-port",
    "appMaxConcurrency": "app-max-concurrency",
    "appHealthProbeInterval": "app-health-probe-interval",
    "appHealthProbeTimeout": "app-health-probe-timeout",
    "appHealthThreshold": "app-health-threshold",
    "daprHTTPMaxRequestSize": "dapr-http-max-request-size",
    "daprHTTPReadBufferSize": "dapr-http-read-buffer-size",
}
SWITCHES = {
    "enableProfiling": "enable-profiling",
    "appSSL": "app-ssl",
    "enableAppHealthCheck": "enable-app-health-check",
    "enableApiLogging": "enable-api-logging",
}
TEXTS = {
    "appID": "app-id",
    "appProtocol": "app-protocol",
    "appChannelAddress": "app-channel-address",
    "apiListenAddresses": "dapr-listen-addresses",
    "unixDomainSocket": "unix-domain-socket",
    "logLevel": "log-level",
    "placementHostAddress": "placement-host-address",
    "schedulerHostAddress": "scheduler-host-address",
    "maxBodySize": "max-body-size",
    "readBufferSize": "read-buffer-size",
    "appHealthCheckPath": "app-health-check-path",
    "runtimePath": "runtime-path",
    "loadBalancer": "load-balancer",
    "namespace": "namespace",
    "trustDomain": "trust-domain",
}
PORTS = ("appPort", "daprHTTPPort", "daprGRPCPort", "daprInternalGRPCPort", "metricsPort")
DESTINATIONS = ("file", "console", "fileAndConsole")
ELSEWHERE = ("containerImage", "containerImagePullPolicy", "createService")
"""Fields that mean something only on Kubernetes."""

SHARED = (
    *(name for name in (*NUMBERS, *SWITCHES, *TEXTS) if name != "appID"),
    "resourcesPath",
    "resourcesPaths",
    "configFilePath",
    "env",
    "labels",
    "instances",
    "daprdLogDestination",
    "appLogDestination",
)
OWN = ("appID", "appDirPath", "command", *SHARED, *ELSEWHERE)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFile:
    """What a run file asks for.

    Attributes:
        path: absolute, or empty when it came from standard input.
        name: its own, or that of its folder.
        wanted: every instance of every app, in the order of the file.
    """

    path: str
    name: str
    wanted: Sequence[Wanted]


def locate(given: str) -> Path | None:
    """Return the absolute path of the run file, or None for standard input (``-``).

    Raises:
        Invalid: it does not exist.
    """
    if given == "-":
        return None
    path = Path(given).expanduser().resolve()
    if path.is_dir():
        path /= FILE_NAME
    if not path.is_file():
        raise Invalid(f"there is no run file {path}")
    return path


def read(given: str, now: float | None = None) -> RunFile:
    """Read a run file: a path, a folder with a ``dapr.yaml``, or ``-``.

    Args:
        given: which one.
        now: seconds since the epoch, for the names of the log files.

    Raises:
        Invalid: it does not exist, or something in it is wrong.
    """
    path = locate(given)
    base = Path.cwd() if path is None else path.parent
    source = Source.decode("standard input", _input()) if path is None else Source.read(path)
    root = Fields(source, compose(source), ("version", "name", "common", "apps"))
    if "version" not in root:
        root.fail(root.node, "version is needed: write version: 1")
    if root.number("version") != 1:
        root.fail(root["version"], "version must be 1")
    if "apps" not in root:
        root.fail(root.node, "there are no apps")
    name = root.text("name") if "name" in root else base.name
    common = _Section(Fields(source, root["common"], SHARED)) if "common" in root else None
    stamp = time.strftime("%Y%m%d%H%M%S", time.localtime(now))
    template = (str(path or ""), name)
    wanted: list[Wanted] = []
    for node in root.nodes("apps"):
        wanted += _App(source, node, common, base).instances(template, stamp)
    if not wanted:
        root.fail(root["apps"], "there are no apps")
    return RunFile(path=template[0], name=name, wanted=wanted)


def _input() -> bytes:
    return sys.stdin.buffer.read()


class _Section:
    """The fields that ``common`` and an app have both."""

    def __init__(self, fields: Fields) -> None:
        self.fields = fields
        self.flags: dict[str, str] = {}
        for name in fields.names():
            flag, text = self._flag(name)
            if flag:
                self.flags[flag] = text
        self.env = fields.mapping("env") if "env" in fields else {}
        self.labels = fields.mapping("labels") if "labels" in fields else {}

    def _flag(self, name: str) -> tuple[str, str]:
        """Return the runtime's flag for a field, and its text; empty for other fields."""
        fields = self.fields
        if name in NUMBERS:
            flag, text = NUMBERS[name], str(fields.number(name))
        elif name in SWITCHES:
            flag, text = SWITCHES[name], str(fields.switch(name)).lower()
        elif name in TEXTS:
            flag, text = TEXTS[name], fields.text(name)
        else:
            return "", ""
        if name in PORTS and text == "-1":
            text = "0"  # as Dapr's own defaults say "none"
        if text and flag != "unix-domain-socket":  # which may be relative to a folder not known yet
            self._check(name, lambda: flags.BY_NAME[flag].read(text))
        return flag, text

    def _check(self, name: str, read: Callable[[], object]) -> None:
        try:
            read()
        except Invalid as problem:
            self.fields.fail(self.fields[name], f"{name} {problem.message}")

    def path(self, name: str, text: str, base: Path, *, folder: bool) -> str:
        """Return a path of the file as an absolute one that exists."""
        path = base / Path(text).expanduser()
        if not (path.is_dir() if folder else path.is_file()):
            kind = "folder" if folder else "file"
            self.fields.fail(self.fields[name], f"{name}: there is no {kind} {path}")
        return str(path)

    def resources(self, base: Path) -> list[str]:
        """Return the folders of resources it names."""
        fields = self.fields
        found = [
            self.path("resourcesPaths", text, base, folder=True)
            for text in (fields.texts("resourcesPaths") if "resourcesPaths" in fields else ())
        ]
        if "resourcesPath" in fields:
            found.append(
                self.path("resourcesPath", fields.text("resourcesPath"), base, folder=True)
            )
        return found

    def config(self, base: Path) -> list[str]:
        """Return the configuration file it names, if any."""
        if "configFilePath" not in self.fields:
            return []
        text = self.fields.text("configFilePath")
        return [self.path("configFilePath", text, base, folder=False)]


class _App(_Section):
    """One entry of ``apps``."""

    def __init__(
        self, source: Source, node: yaml.Node, common: _Section | None, base: Path
    ) -> None:
        super().__init__(Fields(source, node, OWN))
        self._common = common
        self._base = base
        if "appDirPath" not in self.fields:
            fail(source, node, "appDirPath is needed: the folder the app is started in")
        folder = self.path("appDirPath", self.fields.text("appDirPath"), base, folder=True)
        self.directory = Path(folder).resolve()
        self.app_id = self.flags.get("app-id") or self.directory.name
        self._check_app_id(source, node)
        self.command = self.fields.texts("command") if "command" in self.fields else []

    def instances(self, template: tuple[str, str], stamp: str) -> list[Wanted]:
        """Return what to start, once per instance."""
        count = self._count()
        return [self._instance(number, count, template, stamp) for number in range(count)]

    def _check_app_id(self, source: Source, node: yaml.Node) -> None:
        try:
            flags.BY_NAME["app-id"].read(self.app_id)
        except Invalid as problem:
            fail(source, node, f"appID {problem.message}, not {self.app_id!r}; give one")

    def _count(self) -> int:
        section = self._holder("instances")
        if section is None:
            return 1
        count = section.fields.number("instances")
        if not 1 <= count <= MAX_INSTANCES:
            node = section.fields["instances"]
            section.fields.fail(node, f"instances must be from 1 to {MAX_INSTANCES}")
        return count

    def _holder(self, name: str) -> _Section | None:
        """Return the section whose field counts: the app's own, else the common one."""
        if name in self.fields:
            return self
        return self._common if self._common is not None and name in self._common.fields else None

    def _instance(self, number: int, count: int, template: tuple[str, str], stamp: str) -> Wanted:
        title = self.app_id if count == 1 else f"{self.app_id}-{number}"
        common = self._common
        given = {name: [text] for name, text in self._flags(number).items() if text}
        labels = {**(common.labels if common else {}), **self.labels}
        if labels:
            given["label"] = [f"{name}={text}" for name, text in labels.items()]
        given["resources-path"] = self._resources()
        given["config"] = self._config()
        env = {**(common.env if common else {}), **self.env}
        if count > 1:
            env["PILLION_INSTANCE"] = str(number)
        return Wanted(
            flags={name: texts for name, texts in given.items() if texts},
            command=self.command,
            directory=self.directory,
            env=env,
            title=title,
            app_log=self._log("appLogDestination", "fileAndConsole", f"{title}_app_{stamp}"),
            runtime_log=self._log("daprdLogDestination", "file", f"{title}_daprd_{stamp}"),
            template=template,
        )

    def _flags(self, number: int) -> dict[str, str]:
        found = {**(self._common.flags if self._common else {}), **self.flags}
        found["app-id"] = self.app_id
        for flag in (NUMBERS[name] for name in PORTS):
            if number and found.get(flag, "0") != "0":
                found[flag] = str(int(found[flag]) + number)
        return found

    def _resources(self) -> list[str]:
        local = self.directory / FOLDER / "resources"
        shared = self._common.resources(self._base) if self._common else []
        return self.resources(self.directory) or ([str(local)] if local.is_dir() else shared)

    def _config(self) -> list[str]:
        local = self.directory / FOLDER / "config.yaml"
        shared = self._common.config(self._base) if self._common else []
        return self.config(self.directory) or ([str(local)] if local.is_file() else shared)

    def _log(self, name: str, default: str, stem: str) -> Destination:
        section = self._holder(name)
        where = section.fields.text(name) if section is not None else default
        if section is not None and where not in DESTINATIONS:
            section.fields.fail(
                section.fields[name], f"{name} must be one of {', '.join(DESTINATIONS)}"
            )
        return Destination(
            console=where != "file",
            file=None if where == "console" else self.directory / FOLDER / "logs" / f"{stem}.log",
        )
