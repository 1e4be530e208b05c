"""The types of the public API, as mypy sees user code."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.sdk.guide import code

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_user_code_is_checked_well(tmp_path):
    """Each assert_type holds under strict mypy, each ignored slip is one, the guide is typed."""
    guide = tmp_path / "guide.py"
    guide.write_text(code())
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "tests/unit/sdk/typing_api.py", str(guide)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
