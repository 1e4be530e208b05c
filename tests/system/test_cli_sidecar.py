"""``pillion sidecar``: the runtime alone, as a process."""

import json
import signal
import socket
import urllib.request

import pytest
from tests.support.command import Command, until


@pytest.fixture
def pillion(tmp_path):
    """Start ``pillion`` with a home of this test; end what is left of it."""
    started = []

    def start(*args, **more):
        command = Command(tmp_path / "home", *args, **more)
        started.append(command)
        return command

    yield start
    for command in started:
        command.close()


QUIET = ("--dapr-listen-addresses", "127.0.0.1", "--enable-metrics=false")


def ports(pillion):
    """Return the run file of the only runtime."""

    def found():
        listed = pillion("list", "-o", "json")
        assert listed.wait() == 0
        return json.loads(listed.out)

    [row] = until(found, "a runtime in the list")
    return row


def test_a_runtime_that_is_waited_for(pillion):
    """--wait returns 0 once it answers; SIGTERM ends it with status 0."""
    runtime = pillion("sidecar", "-app-id", "a", "-dapr-http-port=0", *QUIET)
    port = ports(pillion)["httpPort"]
    waiting = pillion("sidecar", "--dapr-http-port", port, "--wait")
    assert waiting.wait() == 0
    url = f"http://127.0.0.1:{port}/v1.0/healthz/outbound"
    with urllib.request.urlopen(url, timeout=5) as reply:
        assert reply.status == 204
    runtime.send(signal.SIGTERM)
    assert runtime.wait() == 0


def test_waiting_over_a_unix_socket(pillion, tmp_path):
    """The socket is found by the app id."""
    folder = tmp_path / "s"
    folder.mkdir()
    pillion("sidecar", "-a", "a", "-u", folder, *QUIET)
    waiting = pillion("sidecar", "-a", "a", "-u", folder, "--wait")
    assert waiting.wait() == 0


def test_flags_without_effect_and_the_debug_level(pillion):
    """They are mentioned at debug level only."""
    flags = ("--placement-host-address", "x:1", "--enable-mtls", *QUIET)
    quiet = pillion("sidecar", "-a", "a", "-H", "0", *flags)
    ports(pillion)
    quiet.send(signal.SIGTERM)
    assert quiet.wait() == 0
    assert "placement" not in quiet.err
    loud = pillion("sidecar", "-a", "a", "-H", "0", "--log-level", "debug", *flags)
    until(lambda: "--placement-host-address has no effect here" in loud.err, "the notice")


def test_a_port_in_use_is_one_line(pillion):
    """And the status is 1."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        runtime = pillion("sidecar", "-a", "a", "-H", port, *QUIET)
        assert runtime.wait() == 1
    lines = [line for line in runtime.err.splitlines() if "pillion sidecar:" in line]
    assert len(lines) == 1
    assert f"{port}: the port is in use" in lines[0]
    assert "Traceback" not in runtime.err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("-a a --app-prot 1", 'unknown flag --app-prot; did you mean "--app-port"?'),
        (
            "-a a.b",
            "--app-id must be up to 128 letters, digits, '-' and '_', without '.', not 'a.b'",
        ),
        ("", "--app-id is needed: the name by which others call the app"),
        ("-a a -p 3500", "--app-port: port 3500 is also --dapr-http-port"),
        ("-a a -d /nowhere", "--resources-path must be a folder that exists, not '/nowhere'"),
        ("-a a word", "unexpected argument 'word'"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(pillion, line, message):
    """On standard error, with status 2."""
    command = pillion("sidecar", *line.split())
    assert command.wait() == 2
    assert (command.out, command.err) == ("", f"pillion sidecar: {message}\n")


def test_a_home_that_cannot_be_used_is_one_line(pillion, tmp_path):
    """A file where the home should be."""
    (tmp_path / "file").touch()
    command = pillion("sidecar", "-a", "a", "-H", "0", "--home", tmp_path / "file", *QUIET)
    assert command.wait() != 0
    assert command.err.count("\n") == 1
    assert "is not a directory" in command.err
