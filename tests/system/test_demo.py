"""``pillion demo`` as a person runs it."""

from __future__ import annotations

import re
import shutil

import pytest
from tests.support.command import Command


@pytest.mark.timeout(120)
def test_the_demo_survives_its_kill(tmp_path) -> None:
    """The demo kills an instance, no order fails, and the status says so."""
    demo = Command(tmp_path / "home", "demo", "--seconds", "6")
    try:
        assert demo.wait(90) == 0, demo.report()
    finally:
        demo.close()
    assert ">>> SIGKILL to one instance of orders" in demo.out
    before, after = map(int, re.search(r"(\d+) before the kill, (\d+) after", demo.out).groups())
    assert before > 20
    assert after > 20
    assert re.search(r"(\d+) orders in \d+ s, 0 failed", demo.out)
    language = "node" if shutil.which("node") else "python"
    assert f"stock in {language}" in demo.out


def test_nonsense_seconds_are_refused(tmp_path) -> None:
    """A bad number is one line and a status."""
    demo = Command(tmp_path / "home", "demo", "--seconds", "soon")
    assert demo.wait() == 2
    assert len(demo.err.splitlines()) == 1
