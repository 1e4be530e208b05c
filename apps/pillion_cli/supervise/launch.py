"""What is started: one app and the runtime beside it, down to ports and variables."""

from __future__ import annotations

import secrets
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from pillion import flags
from pillion.errors import Invalid
from pillion.localapi import reachable, socket_path
from pillion.options import Options

PATHS = frozenset(flag.name for flag in flags.FLAGS if flag.metavar in ("FOLDER", "FILE"))
CHOSEN_PORTS = ("dapr-http-port", "dapr-grpc-port", "metrics-port")
"""Flags that get a free port when they have none."""

LOOPBACK = {"dapr-listen-addresses": "127.0.0.1", "metrics-listen-address": "127.0.0.1"}
"""Beside an app on somebody's machine, nothing of the runtime is open to the network."""

_FOR_THE_RUNTIME = ("DAPR_", "PILLION_", "OTEL_", "NAMESPACE", "APP_API_TOKEN")


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where one process's output goes.

    Attributes:
        console: to the terminal.
        file: to this log file, or None.
    """

    console: bool = True
    file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a command line or one entry of a run file asks for.

    Attributes:
        flags: of the runtime, as given.
        command: of the app; empty for the runtime alone.
        directory: the working directory of both; relative paths in ``flags`` start there.
        env: variables of the app beside those it inherits.
        title: what tells this app's output from others'; empty for the only one.
        app_log: where the app's output goes.
        runtime_log: where the runtime's output goes.
        template: path and name of the run file, empty where there is none.
    """

    flags: flags.Given
    command: Sequence[str]
    directory: Path
    env: Mapping[str, str] = field(default_factory=dict)
    title: str = ""
    app_log: Destination = Destination()
    runtime_log: Destination = Destination()
    template: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A Wanted with everything decided.

    Attributes:
        wanted: where it comes from.
        options: what the runtime will make of its flags.
        arguments: the runtime's flags.
        runtime_env: the runtime's variables.
        app_env: the app's variables.
    """

    wanted: Wanted
    options: Options
    arguments: Sequence[str]
    runtime_env: Mapping[str, str]
    app_env: Mapping[str, str]

    @property
    def runtime_command(self) -> list[str]:
        """The command line of the runtime."""
        # -P: what lies in the app's folder must not be taken for modules of ours.
        return [sys.executable, "-P", "-m", "pillion", *self.arguments]


def prepare(wanted: Sequence[Wanted], environ: Mapping[str, str]) -> list[Launch]:
    """Decide ports, defaults and variables for all that is started together.

    Raises:
        Invalid: a flag has a value it cannot have, or two listeners want one port.
    """
    filled = [_filled(each, environ) for each in wanted]
    _check_distinct(wanted, filled)
    missing = [(given, name) for given in filled for name in CHOSEN_PORTS if _is_free(given, name)]
    taken = {port for given in filled for _, port in _ports(given)}
    for (given, name), port in zip(missing, free_ports(len(missing), taken), strict=True):
        given[name] = [str(port)]
    return [_launch(each, given, environ) for each, given in zip(wanted, filled, strict=True)]


def free_ports(count: int, taken: Iterable[int] = ()) -> list[int]:
    """Return ``count`` different ports of the loopback address that nobody listens on."""
    avoid = set(taken)
    found: list[int] = []
    with ExitStack() as stack:  # all are held until all are known, so that they differ
        while len(found) < count:
            each = stack.enter_context(socket.socket())
            each.bind(("127.0.0.1", 0))
            port = each.getsockname()[1]
            if port not in avoid:
                found.append(port)
    return found


def app_environment(wanted: Wanted, options: Options, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the app's variables: those inherited, where its runtime is, those it asks for."""
    known = {
        "APP_ID": options.app_id,
        "APP_PROTOCOL": options.app_protocol,
        "APP_CHANNEL_ADDRESS": options.app_host,
    }
    if options.app_port:
        known["APP_PORT"] = str(options.app_port)
    ours = {f"PILLION_{name}": value for name, value in known.items()}
    ours["PILLION_NAMESPACE"] = options.namespace
    if options.unix_socket_dir is not None:
        ours["PILLION_HTTP_SOCKET"] = str(socket_path(options.unix_socket_dir, options.app_id))
    else:
        host = reachable(options.listen_addresses)
        endpoint = f"http://[{host}]:" if ":" in host else f"http://{host}:"
        known |= _twins(ours, "HTTP_PORT", str(options.http_port))
        # SDKs take the endpoint over the port, so one inherited from elsewhere must not stand.
        known |= _twins(ours, "HTTP_ENDPOINT", f"{endpoint}{options.http_port}")
    known |= _twins(ours, "GRPC_PORT", str(options.grpc_port))
    if options.metrics_port is not None:
        known |= _twins(ours, "METRICS_PORT", str(options.metrics_port))
    if options.api_token:
        known |= _twins(ours, "API_TOKEN", options.api_token)
    if options.app_api_token:
        known["APP_API_TOKEN"] = ours["PILLION_APP_API_TOKEN"] = options.app_api_token
    inherited = {name: value for name, value in environ.items() if name not in _STALE}
    # Python holds back what it prints to a pipe; people want to see it when it happens.
    return {"PYTHONUNBUFFERED": "1", **inherited, **known, **ours, **wanted.env}


_STALE = frozenset(
    f"{prefix}_{name}"
    for prefix in ("DAPR", "PILLION")
    for name in ("HTTP_ENDPOINT", "GRPC_ENDPOINT", "HTTP_PORT", "HTTP_SOCKET")
)


def _twins(ours: dict[str, str], name: str, value: str) -> dict[str, str]:
    """Set ``PILLION_<name>`` in ``ours`` and return its Dapr twin."""
    ours[f"PILLION_{name}"] = value
    return {f"DAPR_{name}": value}


def _filled(wanted: Wanted, environ: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the flags with absolute paths and our defaults, ports apart."""
    given = {
        name: [_absolute(name, text, wanted.directory) for text in texts]
        for name, texts in wanted.flags.items()
    }
    given.setdefault("app-id", [f"app-{secrets.token_hex(3)}"])
    for name, value in LOOPBACK.items():
        given.setdefault(name, [value])
    home = flags.home(given, environ)
    if "resources-path" not in given and (home / "components").is_dir():
        given["resources-path"] = [str(home / "components")]
    if "config" not in given and (home / "config.yaml").is_file():
        given["config"] = [str(home / "config.yaml")]
    return given


def _absolute(name: str, text: str, directory: Path) -> str:
    if name not in PATHS or not text:
        return text
    return str(directory / Path(text).expanduser())


def _is_free(given: flags.Given, name: str) -> bool:
    if name == "metrics-port" and given.get("enable-metrics", ["true"])[-1].lower() in (
        "false",
        "0",
    ):
        return False
    return given.get(name, ["0"])[-1] in ("", "0")


def _ports(given: flags.Given) -> list[tuple[str, int]]:
    """Return the ports that are fixed, with the flags that fix them."""
    texts = ((name, given[name][-1]) for name in _PORT_FLAGS if name in given)
    return [(name, int(text)) for name, text in texts if text.isdigit() and int(text)]


_PORT_FLAGS = ("app-port", "dapr-public-port", "dapr-internal-grpc-port", *CHOSEN_PORTS)


def _check_distinct(wanted: Sequence[Wanted], filled: Sequence[flags.Given]) -> None:
    """Refuse two apps on one port; ``flags.options`` looks at the ports of each one."""
    holders: dict[int, str] = {}
    for each, given in zip(wanted, filled, strict=True):
        title = each.title or given["app-id"][-1]
        for name, port in _ports(given):
            if holders.setdefault(port, title) != title:
                raise Invalid(f"{title}: --{name} {port} is already used by {holders[port]}")


def _launch(wanted: Wanted, given: flags.Given, environ: Mapping[str, str]) -> Launch:
    runtime_env = {
        **environ,
        **{name: text for name, text in wanted.env.items() if name.startswith(_FOR_THE_RUNTIME)},
        "PILLION_APP_COMMAND": " ".join(wanted.command),
    }
    try:
        options = flags.options(given, runtime_env)
    except Invalid as problem:
        where = f"{wanted.title}: " if wanted.title else ""
        raise Invalid(f"{where}{problem.message}") from None
    return Launch(
        wanted=wanted,
        options=options,
        arguments=flags.arguments(given),
        runtime_env=runtime_env,
        app_env=app_environment(wanted, options, environ),
    )
