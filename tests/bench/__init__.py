"""Measurements of speed and memory: figures and ratios against peers, never timed tests."""
