"""The types of the public API, as mypy sees user code."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_user_code_is_checked_well():
    """Every assert_type holds under mypy --strict, and every ignored mistake is one."""
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "tests/unit/sdk/typing_api.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
