"""``pillion run``: an app with a runtime beside it, as processes."""

import contextlib
import json
import os
import pty
import re
import signal
import socket
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from tests.support.command import Command, children, group_members, lives, until

UP = "You're up and running!"

SERVER = """
import http.server, os, signal, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/slow":
            print("slow began", flush=True)
            time.sleep(1.5)
        body = self.path.encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
def stop(*args):
    print("app was asked to stop", flush=True)
    os._exit(0)
signal.signal(signal.SIGTERM, stop)
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["APP_PORT"])), Handler).serve_forever()
"""

WAITER = "import time; print('app is up', flush=True); time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAITER}"


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


def run(pillion, program, *flags, **more):
    """Start ``pillion run`` with a Python program as the app."""
    return pillion("run", *flags, "--", sys.executable, "-c", program, **more)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def pids(command):
    """Return the process ids of the runtime, the app and the guardian."""
    port = re.search(r"HTTP Port: (\d+)", command.out)[1]
    until(lambda: "appPID" in metadata(port)["extended"], "appPID in metadata")
    return children(command.pid)


def metadata(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1.0/metadata", timeout=10) as reply:
        return json.load(reply)


def test_an_app_gets_its_variables_and_its_status_is_passed_on(pillion):
    """The ports it is told are those of a runtime that answers before the app's first line."""
    program = """
import json, os, sys, urllib.request
port = os.environ["DAPR_HTTP_PORT"]
ready = urllib.request.urlopen(f"http://127.0.0.1:{port}/v1.0/healthz/outbound", timeout=5).status
names = [name for name in os.environ if name.startswith(("APP_", "DAPR_", "PILLION_"))]
print("env", json.dumps({name: os.environ[name] for name in names}))
print("ready", ready, file=sys.stderr)
sys.exit(7)
"""
    command = run(pillion, program, "--app-id", "job", env={"DAPR_HTTP_ENDPOINT": "http://old"})
    assert command.wait() == 7
    env = json.loads(re.search(r"^== APP == env (.*)$", command.out, re.MULTILINE)[1])
    assert env["APP_ID"] == env["PILLION_APP_ID"] == "job"
    assert env["DAPR_HTTP_PORT"] == env["PILLION_HTTP_PORT"]
    assert env["DAPR_HTTP_ENDPOINT"] == f"http://127.0.0.1:{env['DAPR_HTTP_PORT']}"
    assert "APP_PORT" not in env
    assert "\n== APP == ready 204\n" in command.out
    assert 'Started Dapr with app id "job"' in command.out
    assert command.err == "pillion run: the app exited with status 7\n"


def test_the_lines_that_scripts_look_for(pillion):
    """In the order in which things happen."""
    command = run(pillion, "print('hello')", "--app-id", "job")
    assert command.wait() == 0
    places = [
        command.out.index(line)
        for line in (
            'Validating config and starting app "job"',
            'Started Dapr with app id "job". HTTP Port: ',
            "== APP == hello",
            "Exited App successfully",
        )
    ]
    assert places == sorted(places)
    assert UP in command.out
    assert command.err == ""


def test_a_server_is_called_through_its_runtime_and_listed(pillion):
    """The app is reached by its name; list, invoke and the metadata know it."""
    command = run(pillion, SERVER, "-a", "web", "-p", free_port(), "--label", "version=v1")
    command.see(UP)
    invoked = pillion("invoke", "-a", "web", "-m", "hello/x?y=1", "-v", "GET")
    assert (invoked.wait(), invoked.out) == (0, "/hello/x?y=1")
    listed = pillion("list", "-o", "json")
    assert listed.wait() == 0
    [row] = json.loads(listed.out)
    assert (row["appId"], row["cliPid"]) == ("web", command.pid)
    extended = metadata(row["httpPort"])["extended"]
    assert extended["cliPID"] == str(command.pid)
    assert extended["appPID"] == str(row["appPid"])
    assert extended["appCommand"].startswith(sys.executable)
    table = pillion("list")
    assert table.wait() == 0
    assert table.out.splitlines()[0].split()[:2] == ["APP", "ID"]
    assert "web" in table.out
    stopped = pillion("stop", "web")
    assert (stopped.wait(), stopped.out) == (0, "app stopped: web\n")
    assert command.wait() == 0
    assert "app was asked to stop" in command.out
    empty = pillion("list", "-o", "json")
    assert empty.wait() == 0
    assert json.loads(empty.out) == []


def test_sigterm_finishes_calls_in_flight_before_the_app_stops(pillion):
    """The call that was under way gets its answer, then the app is asked to stop."""
    command = run(pillion, SERVER, "-a", "web", "-p", free_port())
    command.see(UP)
    invoked = pillion("invoke", "-a", "web", "-m", "slow", "-v", "GET")
    command.see("slow began")
    command.send(signal.SIGTERM)
    assert (invoked.wait(), invoked.out) == (0, "/slow")
    assert command.wait() == 0
    assert "Exited Dapr successfully" in command.out
    assert command.out.index("Exited Dapr") < command.out.index("Exited App")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_are_forwarded(pillion, signum):
    """The app gets the same signal, and how it ended is how we end."""
    program = f"""
import signal, time
def got(number, frame):
    print("got", signal.Signals(number).name, flush=True)
    raise SystemExit(40 + number)
signal.signal({int(signum)}, got)
{WAITER}
"""
    command = run(pillion, program, "-a", "job")
    command.see("app is up")
    command.see(UP)
    command.send(signum)
    assert command.wait() == 40 + signum
    assert f"== APP == got {signum.name}" in command.out


def test_an_app_that_dies_of_the_signal_is_reported_as_a_shell_would(pillion):
    """128 and the number of the signal."""
    command = run(pillion, WAITER, "-a", "job")
    command.see(UP)
    command.send(signal.SIGTERM)
    assert command.wait() == 128 + signal.SIGTERM
    assert "Exited App successfully" in command.out


def test_an_app_that_kills_itself(pillion):
    """SIGKILL and SIGSEGV are named."""
    command = run(pillion, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "-a", "job")
    assert command.wait() == 137
    assert command.err == "pillion run: the app was ended by SIGKILL\n"


def test_ctrl_c_while_the_runtime_starts(pillion):
    """The app is not started any more, and the status says what ended us."""
    command = run(pillion, WAITER, "-a", "job")
    command.see("Validating config and starting app")
    command.send(signal.SIGINT)
    assert command.wait() == 128 + signal.SIGINT
    assert "app is up" not in command.out
    assert "Traceback" not in command.out + command.err


def test_a_second_ctrl_c_is_immediate(pillion):
    """An app that ignores the first one does not hold us up."""
    program = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); {WAITER}"
    command = run(pillion, program, "-a", "job")
    command.see(UP)
    command.send(signal.SIGINT)
    command.see("Ctrl-C again stops at once")
    began = time.monotonic()
    # One that follows too soon is an echo of the first, so there may be more than two.
    until(lambda: command.process.poll() or command.send(signal.SIGINT), "its end")
    assert command.wait() == 137
    assert time.monotonic() - began < 5


def test_the_end_of_the_app_ends_the_runtime_at_once(pillion):
    """A job completes; nothing lingers for longer than two seconds."""
    command = run(pillion, "import time; time.sleep(1); print('done', flush=True)", "-a", "job")
    command.see("done")
    began = time.monotonic()
    assert command.wait() == 0
    assert time.monotonic() - began < 2


def test_the_death_of_the_runtime_stops_the_app(pillion):
    """Not zero, and a line that says why."""
    command = run(pillion, WAITER, "-a", "job")
    command.see(UP)
    listed = pillion("list", "-o", "json")
    assert listed.wait() == 0
    [row] = json.loads(listed.out)
    os.kill(row["daprdPid"], signal.SIGKILL)
    assert command.wait() == 137
    assert "pillion run: the runtime was ended by SIGKILL, so the app was stopped" in command.err
    assert not lives(row["appPid"])


def test_a_runtime_that_is_told_to_shut_down_ends_all(pillion):
    """The shutdown call of the API is a wish to stop, not a failure."""
    command = run(pillion, WAITER, "-a", "job")
    command.see(UP)
    port = re.search(r"HTTP Port: (\d+)", command.out)[1]
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1.0/shutdown", method="POST")
    with urllib.request.urlopen(request, timeout=10):
        pass
    assert command.wait() == 0


def test_a_port_in_use_is_one_line_and_the_app_does_not_stay(pillion):
    """The runtime cannot start, so the app that was started with it is stopped."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        command = run(pillion, WAITER, "-a", "job", "-p", free_port(), "-H", port)
        assert command.wait() == 1
    assert f"127.0.0.1:{port}: the port is in use" in command.out
    assert "so the app was stopped" in command.err


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["no-such-program"], 127, "cannot start 'no-such-program': there is no such command"),
        (["/etc/passwd"], 126, "cannot start '/etc/passwd': permission denied"),
    ],
)
def test_a_command_that_cannot_be_started(pillion, words, status, message):
    """What a shell would exit with, and one line."""
    command = pillion("run", "-a", "job", "--", *words)
    assert command.wait() == status
    assert command.err == f"pillion run: {message}\n"


def test_nothing_survives_a_killed_supervisor(pillion):
    """SIGKILL leaves neither runtime nor app, and not what the app started or hides."""
    program = f"""
import subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
{STUBBORN}
"""
    command = run(pillion, program, "-a", "job")
    command.see(UP)
    family = pids(command)
    groups = {pid: group_members(pid) for pid in family}
    everyone = {member for members in groups.values() for member in members}
    assert len(family) >= 3  # the runtime, the app, the guardian
    assert len(everyone) >= 4  # and what the app started
    command.process.kill()
    command.process.wait()
    until(lambda: not any(map(lives, everyone)), "the end of all children", 10)
    listed = pillion("list", "-o", "json")
    assert listed.wait() == 0
    assert json.loads(listed.out) == []


def test_nothing_survives_a_killed_guardian_and_supervisor(pillion):
    """The kernel ends the children where the guardian cannot."""
    command = run(pillion, WAITER, "-a", "job")
    command.see(UP)
    family = pids(command)
    for pid in family:
        if b"pillion_cli" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
    command.process.kill()
    command.process.wait()
    until(lambda: not any(map(lives, family)), "the end of all children", 15)


def test_what_the_app_leaves_behind_ends_with_it(pillion):
    """A background child of the app in its group does not outlive it."""
    program = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("child", child.pid, flush=True)
"""
    command = run(pillion, program, "-a", "job")
    assert command.wait() == 0
    child = int(re.search(r"== APP == child (\d+)", command.out)[1])
    until(lambda: not lives(child), "the end of what the app left")


def test_output_is_shown_line_by_line_whatever_it_is(pillion):
    """Both streams, any bytes, long lines in pieces, the last one without an end."""
    program = """
import os
os.write(1, b"\\xff\\x00\\n")
os.write(2, b"error\\r\\n")
os.write(1, b"half")
os.write(1, b" a line\\n")
os.write(1, b"x" * 40000 + b"\\nend")
"""
    command = run(pillion, program, "-a", "job")
    assert command.wait() == 0
    lines = [line for line in command.raw.split(b"\n") if line.startswith(b"== APP == ")]
    shown = [line.removeprefix(b"== APP == ") for line in lines]
    assert shown[:3] == [b"\xff\x00", b"error", b"half a line"]
    assert b"".join(shown[3:-1]) == b"x" * 40000
    assert max(map(len, shown)) <= 16 * 1024
    assert shown[-1] == b"end"


def test_lines_of_app_and_runtime_never_share_one(pillion):
    """Two writers at full speed; every line of the app arrives whole, in order."""
    program = """
import os
for number in range(5000):
    os.write(1, b"line %d of the app " % number)
    os.write(1, b"and its end\\n")
"""
    command = run(pillion, program, "-a", "job", "--log-level", "debug")
    assert command.wait() == 0
    lines = re.findall(r"^== APP == line (\d+) of the app and its end$", command.out, re.MULTILINE)
    assert [int(line) for line in lines] == list(range(5000))


def test_a_reader_that_stands_still_blocks_neither_memory_nor_signals(pillion):
    """The app waits for its reader, the supervisor stays small, and SIGTERM still works."""
    read, write = os.pipe()
    program = """
line = b"x" * 1000 + b"\\n"
import os
for _ in range(100_000):
    os.write(1, line)
"""
    command = run(pillion, program, "-a", "job", stdout=write)
    os.close(write)
    app = until(lambda: _child_with(command, b"100_000"), "the app")
    until(lambda: _waits(app), "the app waiting for its reader")
    status = Path(f"/proc/{command.pid}/status").read_text()
    resident = int(re.search(r"VmRSS:\s+(\d+) kB", status)[1])
    assert resident < 60 * 1024
    command.send(signal.SIGTERM)
    assert command.wait() == 143
    os.close(read)


def _child_with(command, text):
    """Return the child whose command line ends in ``text``, once there is one."""
    for child in children(command.pid):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            if text in words[-2] and b"pillion_cli" not in words:
                return child
    return None


def _waits(pid):
    """Tell whether a process sleeps and uses no processor time for a while."""
    seen = set()
    for _ in range(5):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        seen.add((fields[0], fields[11], fields[12]))
        time.sleep(0.05)
    return len(seen) == 1 and next(iter(seen))[0] == "S"


def test_colours_only_on_a_terminal_and_not_with_no_color(pillion):
    """A pipe gets none, a terminal does, NO_COLOR wins."""
    piped = run(pillion, "print('hi')", "-a", "job")
    assert piped.wait() == 0
    assert b"\x1b" not in piped.raw
    for env, coloured in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        ours, theirs = pty.openpty()
        shown = run(
            pillion, "print('hi')", "-a", "job", stdout=theirs, env={"TERM": "xterm", **env}
        )
        os.close(theirs)
        data = _read_terminal(ours)
        assert shown.wait() == 0
        assert b"hi" in data
        assert (b"\x1b[" in data) is coloured


def _read_terminal(descriptor):
    data = b""
    try:
        while chunk := os.read(descriptor, 65536):
            data += chunk
    except OSError:  # Linux says EIO when the other side is closed
        pass
    os.close(descriptor)
    return data


def test_standard_input_goes_to_the_app(pillion):
    """What is piped in is for the only app."""
    read, write = os.pipe()
    os.write(write, b"from outside\n")
    os.close(write)
    command = run(pillion, "print('got', input())", "-a", "job", stdin=read)
    os.close(read)
    assert command.wait() == 0
    assert "== APP == got from outside" in command.out


def test_modules_of_the_app_are_not_taken_for_ours(pillion, tmp_path):
    """A typing.py or yaml.py beside the app does not break the runtime."""
    for name in ("typing.py", "yaml.py", "asyncio.py", "pillion.py"):
        (tmp_path / name).write_text("raise RuntimeError('the wrong module')\n")
    command = pillion("run", "-a", "job", "--", "true", cwd=tmp_path)
    assert command.wait() == 0, command.report()


def test_only_the_runtime(pillion):
    """Without a command there is a runtime, until somebody stops it."""
    command = pillion("run", "--app-id", "alone")
    command.see(UP)
    command.send(signal.SIGTERM)
    assert command.wait() == 0


def test_a_token_reaches_the_app_and_our_own_calls(pillion):
    """The supervisor and invoke show the token that the runtime asks for."""
    env = {"PILLION_API_TOKEN": "secret"}
    program = "import os; assert os.environ['DAPR_API_TOKEN'] == 'secret'\n" + SERVER
    command = run(pillion, program, "-a", "web", "-p", free_port(), env=env)
    command.see(UP)
    with_token = pillion("invoke", "-a", "web", "-m", "x", "-v", "GET", env=env)
    assert (with_token.wait(), with_token.out) == (0, "/x")
    without = pillion("invoke", "-a", "web", "-m", "x", "-v", "GET")
    assert without.wait() == 1
    assert without.err == "pillion invoke: web answered 401 Unauthorized\n"
    assert "secret" not in command.out + command.err


def test_a_unix_socket(pillion, tmp_path):
    """The API on a socket: supervisor, list and invoke find it."""
    folder = tmp_path / "s"
    folder.mkdir()
    command = run(pillion, SERVER, "-a", "web", "-p", free_port(), "-u", folder)
    command.see(UP)
    assert (folder / "dapr-web-http.socket").is_socket()
    invoked = pillion("invoke", "-a", "web", "-m", "x", "-v", "GET")
    assert (invoked.wait(), invoked.out) == (0, "/x")
