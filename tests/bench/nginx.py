"""nginx as the peer that Pillion is measured against, and as the cheapest app.

Each nginx is a master process of its own with one worker, no access log and the stock buffering.
Connections are kept for the whole run on every hop, so that handshakes are no part of the figures.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Template

from tests.bench.app import PAYLOAD
from tests.bench.certs import Identity
from tests.bench.errors import MissingProgramError
from tests.bench.processes import running, status_of, wait_for

SEARCH_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
INSTALL = "nginx is not installed: install it (apt install nginx, brew install nginx)"

_MAIN = Template("""\
daemon off;
worker_processes 1;
pid $directory/nginx.pid;
error_log $directory/error.log warn;
$user
events { worker_connections 1024; }
http {
    access_log off;
    default_type application/octet-stream;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    client_body_temp_path $directory/body;
    proxy_temp_path $directory/proxy;
    fastcgi_temp_path $directory/fastcgi;
    uwsgi_temp_path $directory/uwsgi;
    scgi_temp_path $directory/scgi;
$http
}
""")

_APP = Template("""\
    # The request is read in one piece, so that the app costs as little as it can.
    client_header_buffer_size 8k;
    server {
        listen 127.0.0.1:$port;
        location / { return 200 "$payload"; }
    }
""")

_PROXY = Template("""\
    upstream next {
        server 127.0.0.1:$next_port;
        keepalive 128;
        keepalive_requests 1000000000;
        keepalive_timeout 1h;
    }
    server {
        listen 127.0.0.1:$port$listen_options;
$server
        location / {
            proxy_pass $scheme://next;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
$location
        }
    }
""")

_SERVER_TLS = Template("""\
        ssl_protocols TLSv1.3;
        ssl_certificate $certificate;
        ssl_certificate_key $key;
        ssl_client_certificate $authority;
        ssl_verify_client on;
        ssl_session_cache off;
        ssl_session_tickets off;
""")

_CLIENT_TLS = Template("""\
            proxy_ssl_protocols TLSv1.3;
            proxy_ssl_certificate $certificate;
            proxy_ssl_certificate_key $key;
            proxy_ssl_trusted_certificate $authority;
            proxy_ssl_verify on;
            proxy_ssl_server_name on;
            proxy_ssl_name $peer;
            proxy_ssl_session_reuse off;
""")

_STREAMING_SERVER = "        client_max_body_size 0;\n"
_STREAMING_LOCATION = """\
            proxy_request_buffering off;
            proxy_max_temp_file_size 0;
"""


@dataclass(frozen=True, slots=True)
class Hop:
    """One proxying nginx.

    Attributes:
        port: where it listens.
        next_port: where it sends requests on to.
        accept: its identity when it serves mutual TLS, or None for plain HTTP.
        connect: its identity when it calls by mutual TLS, or None for plain HTTP.
        peer: the name that the next hop's certificate must have.
        streaming: bodies of any size, never written to disk.
    """

    port: int
    next_port: int
    accept: Identity | None = None
    connect: Identity | None = None
    peer: str = ""
    streaming: bool = False


def find_nginx() -> str:
    """Return the path of the nginx program.

    Raises:
        MissingProgramError: there is none.
    """
    found = shutil.which("nginx", path=SEARCH_PATH)
    if found is None:
        raise MissingProgramError(INSTALL)
    return found


def version() -> str:
    """Return nginx's version and its TLS library, such as ``nginx/1.22.1, OpenSSL 3.0.9``."""
    text = subprocess.run([find_nginx(), "-V"], capture_output=True, text=True, check=True).stderr
    name = text.splitlines()[0].removeprefix("nginx version: ")
    libraries = re.findall(r"OpenSSL [\w.]+", text)
    # Where it was built with one version and runs with another, the last is the one that runs.
    return ", ".join([name, *libraries[-1:]])


def app_config(directory: Path, port: int) -> str:
    """Configure nginx as an app that answers 1 KiB to everything."""
    return _config(directory, _APP.substitute(port=port, payload=PAYLOAD.decode()))


def proxy_config(directory: Path, hop: Hop) -> str:
    """Configure nginx as one of two proxies."""
    server = _STREAMING_SERVER if hop.streaming else ""
    location = _STREAMING_LOCATION if hop.streaming else ""
    if hop.accept is not None:
        server += _SERVER_TLS.substitute(_paths(hop.accept))
    if hop.connect is not None:
        location += _CLIENT_TLS.substitute(_paths(hop.connect), peer=hop.peer)
    http = _PROXY.substitute(
        port=hop.port,
        next_port=hop.next_port,
        listen_options=" ssl" if hop.accept is not None else "",
        scheme="https" if hop.connect is not None else "http",
        server=server,
        location=location,
    )
    return _config(directory, http)


@contextlib.contextmanager
def nginx(directory: Path, config: str, port: int) -> Iterator[int]:
    """Run nginx with ``config`` for the length of the block; yields the master's process id.

    Raises:
        MissingProgramError: nginx is not installed.
        BenchError: it does not start.
    """
    directory.mkdir(parents=True)
    path = directory / "nginx.conf"
    path.write_text(config)
    log = directory / "error.log"
    with running([find_nginx(), "-p", str(directory), "-c", str(path)], log=log) as process:
        url = f"http://127.0.0.1:{port}/"
        # A proxy answers 502 and a TLS port 400 before the rest of the chain is up: it listens.
        wait_for(
            lambda: status_of(url) is not None, f"nginx in {directory}", process=process, log=log
        )
        yield process.pid


def _paths(identity: Identity) -> dict[str, str]:
    return {
        "certificate": str(identity.certificate),
        "key": str(identity.key),
        "authority": str(identity.authority),
    }


def _config(directory: Path, http: str) -> str:
    # Only root may choose a worker's user; its workers must reach the temporary directory too.
    user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
    return _MAIN.substitute(directory=directory, user=user, http=http)
