"""``pillion invoke``: one call to an app that runs here."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pillion.errors import Invalid
from pillion.goflags import Parser
from pillion.localapi import chunks

NAME = "invoke"
SUMMARY = "Call a method of an app that runs here, through its runtime."

VERBS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")


def configure(parser: Parser) -> None:
    """Add the flags and examples."""
    from pillion_cli.instances import add_home

    parser.usage = f"{parser.prog} -a ID -m METHOD [flags]"
    parser.add_argument("-a", "--app-id", metavar="ID", required=True, help="the app")
    parser.add_argument(
        "-m", "--method", metavar="PATH", required=True, help="the path, such as orders/7?full=1"
    )
    parser.add_argument("-d", "--data", metavar="TEXT", help="the body")
    parser.add_argument(
        "-D", "--data-file", metavar="FILE", help="a file with the body; - for standard input"
    )
    parser.add_argument("-v", "--verb", default="POST", help="the HTTP method (default POST)")
    parser.add_argument(
        "-H",
        "--header",
        metavar="'NAME: VALUE'",
        action="append",
        default=[],
        help="a header; repeatable",
    )
    add_home(parser)
    parser.completions["verb"] = VERBS
    parser.completions["data_file"] = ()
    parser.add_examples(
        ("pillion invoke -a orders -m orders/7 -v GET", "read an order"),
        ("""pillion invoke -a orders -m orders -d '{"item": "tea"}'""", "post JSON"),
        ("pillion invoke -a images -m resize -D photo.jpg -H 'Content-Type: image/jpeg'", "a file"),
    )


def run(args: argparse.Namespace) -> int:
    """Call, print the reply's body, and return 0 for a status below 400."""
    from pillion_cli import instances

    if not args.verb.isalpha():
        raise Invalid(f"--verb must be an HTTP method, not {args.verb!r}")
    headers = _headers(args.header)
    instance = instances.named(args.app_id, instances.found(args.home))[0]
    path = f"/v1.0/invoke/{instance.app_id}/method/{_quoted(args.method)}"
    api = instances.api_of(instance)
    with _body(args) as body:
        if body is not None and not any(name.lower() == "content-type" for name in headers):
            headers["Content-Type"] = "application/json"
        with api.request(args.verb.upper(), path, body, headers) as response:
            _show(chunks(response))
    if response.status >= 400:
        answer = f"{response.status} {response.reason}"
        sys.stderr.write(f"pillion invoke: {args.app_id} answered {answer}\n")
        return 1
    return 0


def _show(body: Iterable[bytes]) -> None:
    last = b""
    for chunk in body:
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()  # server-sent events are read as they come
        last = chunk
    if last and not last.endswith(b"\n") and sys.stdout.isatty():
        sys.stdout.write("\n")


def _quoted(method: str) -> str:
    from urllib.parse import quote

    # What is encoded already stays, what a request line cannot carry is encoded.
    return quote(method.removeprefix("/"), safe="/?&=%:@!$'()*+,;~[]")


def _headers(given: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in given:
        name, colon, value = each.partition(":")
        if not colon or not name.strip() or not each.isprintable():
            raise Invalid(f"--header must be 'Name: value', not {each!r}")
        found[name.strip()] = value.strip()
    return found


@contextmanager
def _body(args: argparse.Namespace) -> Iterator[bytes | BinaryIO | None]:
    if args.data is not None and args.data_file is not None:
        raise Invalid("--data and --data-file do not go together")
    if args.data_file is None:
        yield None if args.data is None else str(args.data).encode()
    elif args.data_file == "-":
        yield sys.stdin.buffer
    else:
        try:
            file = Path(args.data_file).open("rb")  # noqa: SIM115 - closed below
        except OSError as error:
            raise Invalid(f"--data-file {args.data_file}: {error.strerror}") from None
        with file:
            yield file
