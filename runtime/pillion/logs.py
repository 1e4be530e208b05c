"""Log lines of the runtime: one format for people, one for machines, both on standard error."""

from __future__ import annotations

import json
import logging
import sys
from typing import TextIO


class _JsonLines(logging.Formatter):
    def __init__(self, app_id: str) -> None:
        super().__init__()
        self._app_id = app_id

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S"),
            "level": record.levelname.lower(),
            "app_id": self._app_id,
            "scope": record.name,
            "msg": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


def configure(level: str, *, as_json: bool, app_id: str, stream: TextIO | None = None) -> None:
    """Send the runtime's log to ``stream`` (standard error) from ``level`` on."""
    handler = logging.StreamHandler(stream or sys.stderr)
    if as_json:
        handler.setFormatter(_JsonLines(app_id))
    else:
        handler.setFormatter(
            logging.Formatter(
                f"%(asctime)s.%(msecs)03d %(levelname)-7s {app_id} %(name)s: %(message)s",
                datefmt="%H:%M:%S",
            )
        )
    root = logging.getLogger("pillion")
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    root.propagate = False
    logging.getLogger("asyncio").addHandler(handler)
