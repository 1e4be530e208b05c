"""``pillion list``: what runs on this machine, of this user."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pillion.goflags import Parser

if TYPE_CHECKING:
    from pillion.home import RunFile

NAME = "list"
SUMMARY = "List the apps that run here."

COLUMNS = (
    ("APP ID", "appId"),
    ("HTTP PORT", "httpPort"),
    ("GRPC PORT", "grpcPort"),
    ("APP PORT", "appPort"),
    ("COMMAND", "command"),
    ("AGE", "age"),
    ("CREATED", "created"),
    ("DAPRD PID", "daprdPid"),
    ("CLI PID", "cliPid"),
    ("RUN TEMPLATE", "runTemplateName"),
)
WIDEST = 40
"""Characters of a column; commands can be long."""


def configure(parser: Parser) -> None:
    """Add the flags and examples."""
    from pillion_cli.instances import add_home

    parser.add_argument(
        "-o", "--output", choices=("table", "json"), default="table", help="table or json"
    )
    add_home(parser)
    parser.add_examples(
        ("pillion list", "for people"),
        ("pillion list -o json", "for programs, with all that is known"),
    )


def run(args: argparse.Namespace) -> int:
    """Print what runs."""
    from pillion_cli import instances

    rows = [_row(each, time.time()) for each in instances.found(args.home)]
    if args.output == "json":
        import json

        text = json.dumps(rows, indent=2)
    else:
        text = table(rows) if rows else "No app runs here."
    sys.stdout.write(text + "\n")
    return 0


def table(rows: Sequence[dict[str, object]]) -> str:
    """Return rows as text in columns; 0 and nothing are left blank."""
    cells = [[heading for heading, _ in COLUMNS]]
    cells += [[_cell(row[key]) for _, key in COLUMNS] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def age(seconds: float) -> str:
    """Return a duration in its two largest units."""
    left = max(0, int(seconds))
    parts = []
    for name, unit in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, unit)
        if count:
            parts.append(f"{count}{name}")
    return "".join(parts[:2]) or "0s"


def _cell(value: object) -> str:
    # What another program wrote into a command line must not move the cursor.
    text = "".join(char if char.isprintable() else "?" for char in str(value or ""))
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"


def _row(instance: RunFile, now: float) -> dict[str, object]:
    from pathlib import Path

    template = instance.run_template
    created = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(instance.created))
    return {
        "appId": instance.app_id,
        "namespace": instance.namespace,
        "httpPort": instance.http_port,
        "grpcPort": instance.grpc_port,
        "appPort": instance.app_port,
        "meshPort": instance.mesh_port,
        "metricsPort": instance.metrics_port,
        "metricsEnabled": instance.metrics_port != 0,
        "unixSocket": instance.unix_socket,
        "command": instance.command,
        "age": age(now - instance.created),
        "created": created,
        "daprdPid": instance.pid,
        "cliPid": instance.cli_pid,
        "appPid": instance.app_pid,
        "instanceId": instance.instance_id,
        "runTemplatePath": template,
        "runTemplateName": Path(template).parent.name if template else "",
    }
