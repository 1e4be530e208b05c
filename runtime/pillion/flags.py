"""The flags of the runtime: daprd's, under its names and defaults, and a few of our own.

One table. ``pillion sidecar`` and ``python -m pillion`` read :func:`options` from it; ``pillion
run`` and run files fill in what nobody gave and hand the rest on as they are.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pillion import flagvalues as value
from pillion.errors import Invalid
from pillion.goflags import Flag
from pillion.options import AppHealthOptions, Options

APP = "the app"
API = "the local API"
MESH = "between runtimes"
CONFIG = "resources and configuration"
RUN = "logs, metrics and the process"
NO_EFFECT = "accepted from scripts for daprd, without effect here"

Given = Mapping[str, list[str]]
"""The flags that were given, by name, as text."""


def _flag(name: str, metavar: str, default: str, help: str, **more: Any) -> Flag:  # noqa: A002 - argparse's word for it
    return Flag(name=name, metavar=metavar, default=default, help=help, **more)


def _unused(name: str, metavar: str = "VALUE", default: str = "") -> Flag:
    return Flag(name=name, metavar=metavar, default=default, help="", group=NO_EFFECT)


FLAGS: tuple[Flag, ...] = (
    _flag("app-id", "ID", "", "the app's name, by which others call it",
          read=value.app_id, short="a", group=APP),
    _flag("app-port", "PORT", "0", "where the app listens; 0 when it has no server",
          read=value.port, short="p", group=APP),
    _flag("app-protocol", "NAME", "http", "http or https",
          read=value.protocol, short="P", group=APP, choices=("http", "https")),
    _flag("app-channel-address", "HOST", "127.0.0.1", "the app's host", group=APP),
    _flag("app-max-concurrency", "N", "-1", "calls to the app at one time; -1 for no limit",
          read=value.limit, group=APP),
    _flag("enable-app-health-check", "", "false", "probe the app; no calls while it fails",
          read=value.switch, group=APP),
    _flag("app-health-check-path", "PATH", "/healthz", "answers 2xx when the app is well",
          group=APP),
    _flag("app-health-probe-interval", "SECONDS", "5", "between two probes; also 500ms, 5s",
          read=value.seconds, group=APP),
    _flag("app-health-probe-timeout", "MILLISECONDS", "500", "for one probe; also 500ms, 5s",
          read=value.milliseconds, group=APP),
    _flag("app-health-threshold", "N", "3", "failures in a row that make the app unhealthy",
          read=value.number, group=APP),
    _flag("app-ssl", "", "false", "the app speaks TLS; the same as --app-protocol https",
          read=value.switch, group=APP),
    _flag("dapr-http-port", "PORT", "3500", "the local API; 0 takes a free port",
          read=value.port, short="H", aliases=("http-port",), group=API),
    _flag("dapr-grpc-port", "PORT", "50001", "told to the app; nothing listens there yet",
          read=value.port, short="G", aliases=("grpc-port",), group=API),
    _flag("dapr-listen-addresses", "HOSTS", "", "of the local API, by comma; empty for all",
          read=value.names, aliases=("listen-addresses",), group=API),
    _flag("unix-domain-socket", "FOLDER", "", "serve the local API on a socket here, not on TCP",
          read=value.folder, short="u", group=API),
    _flag("dapr-public-port", "PORT", "", "a listener with health and metadata only",
          read=value.port, group=API),
    _flag("dapr-public-listen-address", "HOST", "", "its address; all if empty", group=API),
    _flag("max-body-size", "SIZE", "4Mi", "of a request or reply body; -1 for no limit",
          read=value.body_limit, group=API),
    _flag("read-buffer-size", "SIZE", "4Ki", "of a header block", read=value.head_limit, group=API),
    _flag("dapr-http-max-request-size", "MB", "", "deprecated form of --max-body-size",
          read=value.megabytes, group=API),
    _flag("dapr-http-read-buffer-size", "KB", "", "deprecated form of --read-buffer-size",
          read=value.kilobytes, group=API),
    _flag("allowed-origins", "ORIGINS", "", "CORS origins, by comma, or *; off if empty",
          read=value.names, group=API),
    _flag("enable-api-logging", "", "false", "log a line per call of the local API",
          read=value.switch, group=API),
    _flag("namespace", "NAME", "default", "the instance's namespace; also NAMESPACE",
          read=value.domain, group=MESH),
    _flag("label", "KEY=VALUE", "", "a label of this instance, such as version=v1; repeatable",
          read=value.label, many=True, group=MESH),
    _flag("load-balancer", "NAME", "peak-ewma", "how an instance is picked",
          read=value.balancer, group=MESH, choices=value.BALANCERS),
    _flag("lease", "DURATION", "5s", "after which a silent instance is forgotten",
          read=value.lease, group=MESH),
    _flag("dapr-internal-grpc-port", "PORT", "0", "where other runtimes call; 0 takes a free port",
          read=value.port, short="I", aliases=("mesh-port",), group=MESH),
    _flag("dapr-internal-grpc-listen-address", "HOST", "", "its address; DAPR_HOST_IP if empty",
          aliases=("mesh-listen-address",), group=MESH),
    _flag("trust-domain", "NAME", "public", "the SPIFFE trust domain of the identities",
          read=value.domain, group=MESH),
    _flag("resources-path", "FOLDER", "", "YAML resources; repeatable",
          read=value.folder, short="d", aliases=("components-path",), many=True, group=CONFIG),
    _flag("config", "FILE", "", "a Configuration; repeatable, later ones win",
          read=value.file, short="c", many=True, group=CONFIG),
    _flag("home", "FOLDER", "", "$PILLION_HOME; ~/.pillion if neither is given",
          read=Path, group=CONFIG),
    _flag("disable-init-endpoints", "NAMES", "", "of config and subscribe, by comma",
          read=value.init_endpoints, group=CONFIG, choices=("config", "subscribe")),
    _flag("log-level", "LEVEL", "info", "debug, info, warn or error",
          read=value.level, group=RUN, choices=("debug", "info", "warn", "error")),
    _flag("log-as-json", "", "false", "one JSON object per line", read=value.switch, group=RUN),
    _flag("enable-metrics", "", "true", "serve Prometheus metrics", read=value.switch, group=RUN),
    _flag("metrics-port", "PORT", "9090", "of the metrics; 0 takes a free port",
          read=value.port, short="M", group=RUN),
    _flag("metrics-listen-address", "HOST", "", "of the metrics; all if empty", group=RUN),
    _flag("dapr-graceful-shutdown-seconds", "SECONDS", "5", "given to calls in flight at the end",
          read=value.seconds, aliases=("graceful-shutdown",), group=RUN),
    _flag("dapr-block-shutdown-duration", "DURATION", "0", "keep serving so long after SIGTERM",
          read=value.seconds, group=RUN),
    _flag("mode", "NAME", "standalone", "standalone", read=value.mode, group=RUN,
          choices=("standalone",)),
    _unused("profile-port", "PORT", "7777"),
    _unused("enable-profiling", ""),
    _unused("placement-host-address", "HOSTS"),
    _unused("scheduler-host-address", "HOSTS"),
    _unused("scheduler-job-streams", "N", "3"),
    _unused("actors-service"),
    _unused("actors-disseminate-timeout", "DURATION", "30s"),
    _unused("reminders-service"),
    _unused("hot-reload-reconcile-interval", "DURATION", "60s"),
    _unused("app-binding-options-timeout", "DURATION", "3s"),
    _unused("disable-builtin-k8s-secret-store", ""),
    _unused("enable-mtls", ""),
    _unused("sentry-address", "HOST"),
    _unused("control-plane-address", "HOST"),
    _unused("control-plane-namespace", "NAME"),
    _unused("control-plane-trust-domain", "NAME"),
    _unused("trust-anchors-file", "FILE"),
    _unused("runtime-path", "FOLDER"),
)  # fmt: skip

BY_NAME: Mapping[str, Flag] = {flag.name: flag for flag in FLAGS}


def given(namespace: argparse.Namespace) -> dict[str, list[str]]:
    """Return the flags of the table that were given, by name."""
    found: dict[str, list[str]] = {}
    for flag in FLAGS:
        value = getattr(namespace, flag.name, None)
        if value is not None:
            found[flag.name] = value if flag.many else [value]
    return found


def arguments(flags: Given) -> list[str]:
    """Return the command line that gives ``flags``."""
    return [f"--{name}={text}" for name, texts in flags.items() for text in texts]


def notices(flags: Given) -> list[str]:
    """Return a sentence for each given flag that has no effect."""
    return [f"--{name} has no effect here" for name in flags if BY_NAME[name].group == NO_EFFECT]


def options(flags: Given, environ: Mapping[str, str]) -> Options:
    """Return what the runtime is told.

    ``PILLION_*`` variables win over their ``DAPR_*`` and plain twins, flags over variables.

    Raises:
        Invalid: a flag or variable has a value it cannot have; the message is one line.
    """
    values = {flag.name: _value(flag, flags) for flag in FLAGS if flag.group != NO_EFFECT}
    if not values["app-id"]:
        raise Invalid("--app-id is needed: the name by which others call the app")
    found = Options(
        app_id=values["app-id"],
        namespace=_namespace(flags, environ),
        trust_domain=values["trust-domain"],
        home=home(flags, environ),
        app_port=values["app-port"],
        app_protocol="https" if values["app-ssl"] else values["app-protocol"],
        app_host=values["app-channel-address"],
        app_max_concurrency=values["app-max-concurrency"],
        app_health=_app_health(values),
        http_port=values["dapr-http-port"],
        grpc_port=values["dapr-grpc-port"],
        listen_addresses=values["dapr-listen-addresses"] or (),
        public_port=values["dapr-public-port"],
        public_listen_address=values["dapr-public-listen-address"] or "",
        unix_socket_dir=values["unix-domain-socket"],
        mesh_port=values["dapr-internal-grpc-port"],
        mesh_listen_address=values["dapr-internal-grpc-listen-address"] or "",
        host_ip=environ.get("PILLION_HOST_IP") or environ.get("DAPR_HOST_IP") or "127.0.0.1",
        metrics_port=values["metrics-port"] if values["enable-metrics"] else None,
        metrics_listen_address=values["metrics-listen-address"] or "",
        max_body_size=values["dapr-http-max-request-size"] or values["max-body-size"],
        read_buffer_size=values["dapr-http-read-buffer-size"] or values["read-buffer-size"],
        allowed_origins=values["allowed-origins"] or (),
        labels=dict(values["label"]),
        load_balancer=values["load-balancer"],
        lease=values["lease"],
        graceful_shutdown=values["dapr-graceful-shutdown-seconds"],
        block_shutdown=values["dapr-block-shutdown-duration"],
        resources_paths=tuple(values["resources-path"]),
        config_files=tuple(values["config"]),
        api_token=api_token(environ),
        app_api_token=app_api_token(environ),
        api_logging=values["enable-api-logging"],
        disable_init_endpoints=values["disable-init-endpoints"] or frozenset(),
        log_level=values["log-level"],
        log_as_json=values["log-as-json"],
        command=environ.get("PILLION_APP_COMMAND", ""),
    )
    _check_ports(found)
    return found


def home(flags: Given, environ: Mapping[str, str]) -> Path:
    """Return ``$PILLION_HOME``."""
    text = flags.get("home", [""])[-1] or environ.get("PILLION_HOME", "")
    return Path(text).expanduser().absolute() if text else Path.home() / ".pillion"


def switched(text: str | None) -> bool:
    """Tell whether a switch outside of the table is on; None is off."""
    return text is not None and value.switch(text)


def api_token(environ: Mapping[str, str]) -> str:
    """Return the token that callers of the local API must show; empty for none."""
    return environ.get("PILLION_API_TOKEN") or environ.get("DAPR_API_TOKEN") or ""


def app_api_token(environ: Mapping[str, str]) -> str:
    """Return the token shown to the app; empty for none."""
    return environ.get("PILLION_APP_API_TOKEN") or environ.get("APP_API_TOKEN") or ""


def _value(flag: Flag, flags: Given) -> Any:
    """Return the value of one flag: a tuple when it may be repeated, None when it has none."""
    texts = flags.get(flag.name) or [flag.default]
    # An empty text is "not given", as scripts write --config="$CONFIG".
    read = tuple(_read(flag, f"--{flag.name}", text) for text in texts if text)
    if flag.many:
        return read
    return read[-1] if read else _read(flag, "", flag.default) if flag.default else None


def _read(flag: Flag, name: str, text: str) -> Any:
    try:
        return flag.read(text)
    except Invalid as problem:
        raise Invalid(f"{name} {problem.message}, not {text!r}") from None


def _namespace(flags: Given, environ: Mapping[str, str]) -> str:
    if "namespace" not in flags:
        for name in ("PILLION_NAMESPACE", "NAMESPACE"):
            if text := environ.get(name):
                return str(_read(BY_NAME["namespace"], name, text))
    return str(_value(BY_NAME["namespace"], flags))


def _app_health(values: Mapping[str, Any]) -> AppHealthOptions | None:
    if not values["enable-app-health-check"]:
        return None
    # daprd takes its default where a number is not positive.
    path = values["app-health-check-path"]
    health = AppHealthOptions(
        path=path if path.startswith("/") else f"/{path}",
        interval=values["app-health-probe-interval"] or 5.0,
        timeout=values["app-health-probe-timeout"] or 0.5,
        threshold=values["app-health-threshold"] if values["app-health-threshold"] > 0 else 3,
    )
    if health.timeout >= health.interval:
        raise Invalid("--app-health-probe-timeout must be shorter than --app-health-probe-interval")
    return health


def _check_ports(options: Options) -> None:
    """Refuse one port for two listeners; 0 is always another one."""
    taken: dict[int, str] = {}
    for name, port in (
        ("dapr-http-port", 0 if options.unix_socket_dir else options.http_port),
        ("dapr-grpc-port", options.grpc_port),
        ("dapr-public-port", options.public_port or 0),
        ("dapr-internal-grpc-port", options.mesh_port),
        ("metrics-port", options.metrics_port or 0),
        ("app-port", options.app_port),
    ):
        if port and port in taken:
            raise Invalid(f"--{name}: port {port} is also --{taken[port]}")
        taken[port] = name
