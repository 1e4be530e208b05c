"""Every component of the kind secretstores; the suite is one that third parties run too."""

from pillion_conformance.secretstores import *  # noqa: F403 - the suite is what is tested
