"""The ``pillion`` command."""
