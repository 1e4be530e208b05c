"""Every component of the kind state; the suite is one that third parties run too."""

from pillion_conformance.state import *  # noqa: F403 - the suite is what is tested
