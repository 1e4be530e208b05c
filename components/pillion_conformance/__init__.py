"""What every component of a kind keeps, as tests that any component can be put to.

The ``conftest.py`` of a package with a component has ``from pillion_conformance.plugin import *``,
and its module ``test_<kind>.py`` has::

    from pillion_conformance.state import *

    COMPONENT = "state.acme"

The component is opened with its ``example`` settings. For each server that it ``requires`` the
``conftest.py`` has a session fixture ``<server>_server`` that starts it and gives the settings that
reach it.
"""

import pytest

pytest.register_assert_rewrite(
    *(f"{__name__}.{module}" for module in ("state", "lock", "secretstores"))
)
