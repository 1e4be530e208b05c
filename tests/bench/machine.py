"""What a measurement ran on, so that its figures can be judged and repeated."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
import shutil
import ssl
import subprocess
from pathlib import Path

from tests.bench import nginx
from tests.bench.errors import MissingProgramError


def cpu_model(cpuinfo: str) -> str:
    """Find the processor's name in the text of ``/proc/cpuinfo``."""
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return found.group(1).strip() if found else platform.machine()


def wrk_version() -> str:
    """Return wrk's version, or that it is missing."""
    if shutil.which("wrk") is None:
        return "wrk: not installed"
    text = subprocess.run(["wrk", "--version"], capture_output=True, text=True, check=False).stdout
    return " ".join(text.split()[:2])


def nginx_version() -> str:
    """Return nginx's version, or that it is missing."""
    try:
        return nginx.version()
    except MissingProgramError:
        return "nginx: not installed"


def description(command: str) -> list[tuple[str, str]]:
    """Describe this machine and the versions in use.

    Args:
        command: the command line that makes these figures.
    """
    packages = ("uvloop", "httptools", "msgspec", "cryptography")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    cpuinfo = Path("/proc/cpuinfo")
    model = cpu_model(cpuinfo.read_text() if cpuinfo.exists() else "")
    busy = os.getloadavg()[0]
    return [
        ("Command", f"`{command}`"),
        ("Date", datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ("Machine", f"{os.cpu_count()} cores, {model}, load average {busy:.1f} at the start"),
        ("Kernel", f"{platform.system()} {platform.release()}"),
        ("Python", f"{platform.python_version()}, {ssl.OPENSSL_VERSION}"),
        ("Pillion", f"{importlib.metadata.version('pillion')} with {versions}"),
        ("Peers", f"{nginx_version()}, {wrk_version()}"),
    ]
