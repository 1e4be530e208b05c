"""What importing the SDK costs and loads."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import pillion_sdk

HEAVY = (
    "pillion",
    "pillion_components",
    "pydantic",
    "uvicorn",
    "uvloop",
    "h11",
    "httptools",
    "ssl",
)

PROBE = f"""
import sys
import pillion_sdk
from pillion_sdk import App

app = App("orders")

@app.call("orders/{{number}}", methods=["GET"])
async def read(number: int) -> dict[str, int]:
    return {{"number": number}}

loaded = [name for name in {HEAVY!r} if name in sys.modules]
print(*loaded)
"""


def test_importing_and_building_an_app_loads_nothing_heavy():
    """No server, no HTTP library, no pydantic and nothing of the runtime, before they are used."""
    probe = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=True, timeout=30
    )
    assert probe.stdout.strip() == ""


def test_importing_is_quick():
    """The import stays under 150 ms beyond an empty interpreter, at its best of five."""

    def best(code: str) -> float:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
            times.append(time.perf_counter() - start)
        return min(times)

    assert best("import pillion_sdk") - best("pass") < 0.150


def test_nothing_of_ours_is_imported():
    """No module of the SDK imports another package of this project."""
    folder = Path(pillion_sdk.__file__).parent
    ours = {"pillion", "pillion_components", "pillion_cli", "pillion_console", "orders"}
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not {name.split(".")[0] for name in names} & ours, path


def test_everything_exported_is_there():
    """__all__ is exact and without repetition."""
    assert len(set(pillion_sdk.__all__)) == len(pillion_sdk.__all__)
    for name in pillion_sdk.__all__:
        assert hasattr(pillion_sdk, name)
