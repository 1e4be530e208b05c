"""Pillion: one runtime process beside every app."""

__version__ = "0.1.0"
