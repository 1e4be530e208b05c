"""``pillion run -f``: several apps in one file, as processes."""

import json
import re
import signal
import socket
import sys

import pytest
from tests.support.command import Command, lives, until

UP = "You're up and running!"

CHECKOUT = """
import json, os, sys, time, urllib.request
port = os.environ["DAPR_HTTP_PORT"]
print("env", os.environ["ONE"], os.environ["BOTH"], os.getcwd(), flush=True)
request = urllib.request.Request(f"http://127.0.0.1:{port}/orders/7")
request.add_header("dapr-app-id", "order-processor")
for attempt in range(100):
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            print("answer", reply.read().decode(), flush=True)
            break
    except OSError:
        time.sleep(0.05)
if "stay" in sys.argv:
    time.sleep(600)
"""

ORDERS = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"{self.path} by {os.environ.get('PILLION_INSTANCE', 'one')}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
print("orders on", os.environ["APP_PORT"], flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["APP_PORT"])), Handler).serve_forever()
"""


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


@pytest.fixture
def shop(tmp_path):
    """Two apps in their folders; returns a function that writes the run file."""
    folder = tmp_path / "shop"
    for name, program in (("checkout", CHECKOUT), ("order-processor", ORDERS)):
        (folder / name).mkdir(parents=True)
        (folder / name / "app.py").write_text(program)

    def write(*apps, common=None):
        file = {"version": 1, "apps": list(apps)}
        file |= {"common": common} if common else {}
        (folder / "dapr.yaml").write_text(json.dumps(file))  # JSON is YAML
        return folder

    return write


def app(folder, *words, **fields):
    return {"appDirPath": folder, "command": [sys.executable, "app.py", *words], **fields}


def free_ports(count):
    """Return the first of ``count`` ports in a row that are free."""
    while True:
        with socket.socket() as first:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
        try:
            for each in range(port + 1, port + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", each))
        except (OSError, OverflowError):
            continue
        return port


def test_two_apps_call_each_other(pillion, shop):
    """Names, folders, variables, logs and console lines are as in Dapr; Ctrl-C ends all."""
    port = free_ports(1)
    folder = shop(
        app("./order-processor/", appPort=port),
        app("checkout", "stay", appID="checkout", env={"BOTH": "app"}),
        common={"env": {"ONE": 1, "BOTH": "common"}, "labels": {"version": "v1"}},
    )
    command = pillion("run", "-f", folder)
    command.see("== APP - checkout == answer /orders/7 by one")
    command.see(UP)
    command.send(signal.SIGINT)
    assert command.wait() == 0, command.report()
    for line in (
        'Validating config and starting app "order-processor"',
        'Started Dapr with app id "order-processor". HTTP Port: ',
        f"Writing log files to directory : {folder}/order-processor/.dapr/logs",
        f"== APP - order-processor == orders on {port}",
        f"== APP - checkout == env 1 app {folder}/checkout",
        "Exited App successfully - checkout",
    ):
        assert line in command.out
    assert command.out.index('app "order-processor"') < command.out.index('app "checkout"')
    assert "== PILLION" not in command.out
    [log] = (folder / "checkout/.dapr/logs").glob("checkout_app_*.log")
    assert "answer /orders/7 by one\n" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600
    [log] = (folder / "checkout/.dapr/logs").glob("checkout_daprd_*.log")
    assert "the API listens" in log.read_text()


def test_one_ends_the_others_go_on_until_all_have_ended(pillion, shop):
    """The status tells that one of them failed, and who it was."""
    folder = shop(
        {"appDirPath": "checkout", "command": ["sh", "-c", "exit 5"], "appID": "failing"},
        {"appDirPath": "checkout", "command": ["sh", "-c", "sleep 1; echo last"], "appID": "long"},
    )
    command = pillion("run", "-f", folder / "dapr.yaml")
    assert command.wait() == 5
    assert command.err == "pillion run: failing: the app exited with status 5\n"
    assert "== APP - long == last" in command.out
    assert "Exited App successfully - long" in command.out


def test_instances_share_the_load(pillion, shop):
    """Each of them has a port of its own and answers some of the calls."""
    port = free_ports(2)
    folder = shop(app("order-processor", appPort=port, instances=2, appID="orders"))
    command = pillion("run", "-f", folder)
    command.see(UP)
    for number in range(2):
        command.see(f"== APP - orders-{number} == orders on {port + number}")
    listed = pillion("list", "-o", "json")
    assert listed.wait() == 0
    rows = json.loads(listed.out)
    assert [row["appId"] for row in rows] == ["orders", "orders"]
    assert {row["runTemplatePath"] for row in rows} == {str(folder / "dapr.yaml")}
    assert {row["cliPid"] for row in rows} == {command.pid}


def test_one_app_of_several_is_stopped_by_name_and_all_by_file(pillion, shop):
    """pillion stop APP leaves the others alone; pillion stop -f ends the run."""
    folder = shop(
        {"appDirPath": "checkout", "command": ["sleep", "600"], "appID": "first"},
        {"appDirPath": "checkout", "command": ["sleep", "600"], "appID": "second"},
    )
    command = pillion("run", "-f", folder)
    command.see(UP)
    stopped = pillion("stop", "first")
    assert (stopped.wait(), stopped.out) == (0, "app stopped: first\n")
    command.see("Exited App successfully - first")
    listed = pillion("list", "-o", "json")
    assert listed.wait() == 0
    [row] = json.loads(listed.out)
    assert row["appId"] == "second"
    assert lives(row["appPid"])
    stopped = pillion("stop", "-f", folder)
    assert (stopped.wait(), stopped.out) == (0, "app stopped: second\n")
    assert command.wait() == 0
    assert not lives(row["appPid"])
    again = pillion("stop", "-f", folder)
    assert again.wait() == 1
    assert again.err == f"pillion stop: no app of {folder}/dapr.yaml is running here\n"


def test_an_app_that_cannot_start_ends_the_run(pillion, shop):
    """Half a system is no system."""
    folder = shop(
        {"appDirPath": "checkout", "command": ["sleep", "600"], "appID": "first"},
        {"appDirPath": "checkout", "command": ["no-such-program"], "appID": "second"},
        {"appDirPath": "checkout", "command": ["sleep", "600"], "appID": "third"},
    )
    command = pillion("run", "-f", folder)
    assert command.wait() == 127
    assert "second: cannot start 'no-such-program'" in command.err
    assert "Exited App successfully - first" in command.out
    assert 'app "third"' not in command.out


def test_a_job_that_ends_before_the_others_start_does_not_end_the_run(pillion, shop):
    """The quickest app is no failure."""
    folder = shop(
        {"appDirPath": "checkout", "command": ["true"], "appID": "quick"},
        {"appDirPath": "checkout", "command": ["sh", "-c", "echo second"], "appID": "second"},
    )
    command = pillion("run", "-f", folder)
    assert command.wait() == 0
    assert "== APP - second == second" in command.out


def test_log_destinations(pillion, shop):
    """file, console and fileAndConsole, for the app and for the runtime."""
    folder = shop(
        app("checkout", appID="a", daprdLogDestination="console", appLogDestination="file"),
        common={"env": {"ONE": 1, "BOTH": 2}},
    )
    (folder / "checkout/app.py").write_text("print('only in the file')")
    command = pillion("run", "-f", folder)
    assert command.wait() == 0
    assert "only in the file" not in command.out
    assert re.search(r"^== PILLION - a == .*the API listens", command.out, re.MULTILINE)
    [log] = (folder / "checkout/.dapr/logs").iterdir()
    assert log.read_text() == "only in the file\n"


def test_nothing_survives_a_killed_supervisor_of_several(pillion, shop):
    """The same as for one app."""
    folder = shop(
        {"appDirPath": "checkout", "command": ["sleep", "600"], "appID": "first"},
        {"appDirPath": "checkout", "command": ["sh", "-c", "sleep 600 & wait"], "appID": "second"},
    )
    command = pillion("run", "-f", folder)
    command.see(UP)
    listed = pillion("list", "-o", "json")
    assert listed.wait() == 0
    everyone = [row[key] for row in json.loads(listed.out) for key in ("daprdPid", "appPid")]
    assert len(everyone) == 4
    command.process.kill()
    command.process.wait()
    until(lambda: not any(map(lives, everyone)), "the end of all children", 10)


def test_a_mistake_in_the_file_is_one_line(pillion, shop):
    """Nothing is started."""
    folder = shop(app("checkout", appPrt=1))
    command = pillion("run", "-f", folder)
    assert command.wait() == 2
    assert command.out == ""
    assert command.err == (
        f"pillion run: {folder}/dapr.yaml:1: there is no field 'appPrt' here; "
        'did you mean "appPort"?\n'
    )


def test_a_log_folder_that_cannot_be_written_is_one_line(pillion, shop):
    """Nothing is started."""
    folder = shop({"appDirPath": "checkout", "command": ["true"], "appID": "a"})
    (folder / "checkout/.dapr").touch()
    command = pillion("run", "-f", folder)
    assert command.wait() == 1
    assert command.err.startswith(
        f"pillion run: cannot write the log file {folder}/checkout/.dapr/"
    )
    assert command.err.count("\n") == 1


def test_why_a_runtime_died_is_shown_although_its_log_goes_to_a_file(pillion, shop):
    """The last line of the hidden log says it."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        fields = {"appDirPath": "checkout", "command": ["sleep", "600"], "appID": "a"}
        command = pillion("run", "-f", shop({**fields, "daprHTTPPort": port}))
        assert command.wait() == 1
    first, second = command.err.splitlines()
    assert first == "pillion run: a: the runtime exited with status 1, so the app was not started"
    assert second.startswith("pillion run: a: its last line was: ")
    assert second.endswith(f"127.0.0.1:{port}: the port is in use")
