"""What ``pillion demo`` does: the sample system, its numbers, and the one who kills."""
