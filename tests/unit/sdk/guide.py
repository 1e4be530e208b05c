"""The code of the SDK's guide."""

import re
from pathlib import Path

GUIDE = Path(__file__).parents[3] / "docs" / "guide" / "sdk.md"


def code() -> str:
    """Return the Python of the guide as one module: its blocks build on one another."""
    return "\n\n".join(re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(), re.M | re.S))
