"""Every component of the kind lock; the suite is one that third parties run too."""

from pillion_conformance.lock import *  # noqa: F403 - the suite is what is tested
