"""The program around the runtime: flags in, exit status out.

``pillion sidecar`` and ``python -m pillion`` are both this.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from pillion import __version__
from pillion.errors import Failure, Invalid, Unavailable
from pillion.flags import FLAGS, RUN, Given, given, notices, options, switched
from pillion.goflags import Flag, Parser
from pillion.options import Options

SUMMARY = "Run the runtime alone; the app is started by something else."

WAIT = 60.0
"""Seconds that ``--wait`` waits for a runtime."""

_ACTIONS = (
    Flag(
        name="wait",
        metavar="",
        help=f"wait up to {WAIT:g} s for a runtime on --dapr-http-port, and exit",
        group=RUN,
    ),
    Flag(name="version", metavar="", help="print the version and exit", group=RUN),
    Flag(name="build-info", metavar="", help="print version and platform and exit", group=RUN),
)


def configure(parser: Parser) -> None:
    """Add the flags and examples."""
    parser.usage = f"{parser.prog} --app-id ID [flags]"
    parser.add_flags(FLAGS)
    parser.add_flags(_ACTIONS)
    parser.add_examples(
        (f"{parser.prog} --app-id orders --app-port 8000", "beside an app that serves port 8000"),
        (f"{parser.prog} --app-id cron", "beside an app that only makes calls"),
        (f"{parser.prog} -a orders -p 8000 --label version=v2 -d ./resources", "version v2"),
        (f"{parser.prog} --dapr-http-port 3500 --wait", "return when that runtime is up"),
    )


def run(args: argparse.Namespace) -> int:
    """Serve until the end and return the exit status.

    Raises:
        Failure: the runtime could not start; the message is one line.
    """
    if switched(args.version):
        return _say(__version__)
    if switched(getattr(args, "build-info")):
        return _say(f"Pillion {__version__}, Python {sys.version.split()[0]}, {sys.platform}")
    flags = given(args)
    if switched(args.wait):
        return _wait(flags)
    found = options(flags, os.environ)
    if found.log_level == "debug":
        for notice in notices(flags):
            sys.stderr.write(_line(notice, found) + "\n")
    return _serve(found)


def main(args: list[str]) -> int:
    """Be ``python -m pillion``."""
    parser = Parser("python -m pillion", SUMMARY)
    configure(parser)
    words = args[1:] if args[:1] == ["sidecar"] else args
    try:
        return run(parser.parse(words))
    except Failure as failure:
        sys.stderr.write(f"pillion: {failure.message}\n")
        return 2 if isinstance(failure, Invalid) else 1


def _serve(found: Options) -> int:
    from pillion.runtime import serve  # all of the runtime, which --wait and --version need not

    try:
        return serve(found)
    except BaseExceptionGroup as group:
        # The parts run in task groups, which wrap what goes wrong; people want the one line.
        failure = _only_failure(group)
        if failure is None:
            raise
        raise failure from None


def _only_failure(group: BaseExceptionGroup[BaseException]) -> Failure | None:
    """Return the first failure of a group that holds nothing but failures."""
    failures, others = group.split(Failure)
    first: BaseException | None = None if others is not None else failures
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first if isinstance(first, Failure) else None


def _line(notice: str, found: Options) -> str:
    if not found.log_as_json:
        return notice
    import json

    return json.dumps({"level": "debug", "app_id": found.app_id, "msg": notice})


def _say(line: str) -> int:
    sys.stdout.write(line + "\n")
    return 0


def _wait(flags: Given) -> int:
    from pillion.localapi import LocalApi, reachable, socket_path

    probe = options({"app-id": ["none"], **flags}, os.environ)
    if probe.unix_socket_dir is not None and "app-id" not in flags:
        raise Invalid("--wait needs --app-id to know the socket in --unix-domain-socket")
    api = LocalApi(
        host=reachable(probe.listen_addresses),
        port=probe.http_port,
        socket=probe.unix_socket_dir and socket_path(probe.unix_socket_dir, probe.app_id),
        token=probe.api_token,
    )
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        try:
            with api.request("GET", "/v1.0/healthz/outbound", timeout=1.0) as response:
                if response.status < 300:
                    return 0
        except Unavailable:
            pass
        time.sleep(0.1)
    raise Unavailable(f"{api} was not ready within {WAIT:g} seconds")
