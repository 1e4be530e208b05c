"""``pillion sidecar``: the runtime alone, with daprd's flags."""

from __future__ import annotations

from pillion.sidecar import SUMMARY, configure, run

NAME = "sidecar"

__all__ = ["NAME", "SUMMARY", "configure", "run"]
