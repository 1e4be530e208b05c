"""One suite per kind, run over every component of that kind without naming any.

A module ``test_<kind>.py`` takes the fixture ``subject`` and gets one test for each component type
that ``pillion.registry`` knows for the kind. What a component cannot be opened without is started
first: for ``requires = ("nats",)`` the session fixture ``nats_server`` is asked for, and gives the
settings that reach the server. Tests that need more than the kind's common promise say so with
``@pytest.mark.promises(...)``, and a twin under ``@pytest.mark.lacks(...)`` tests the refusal.
"""

from __future__ import annotations

from tests.conformance.etcd_fixtures import (  # noqa: F401 - fixtures
    _grpc_stays,
    etcd_process,
    etcd_server,
)
from tests.conformance.nats_fixtures import (  # noqa: F401 - fixtures
    nats_process,
    nats_server,
    own_nats,
)
from tests.conformance.redis_fixtures import (  # noqa: F401 - fixtures
    _redis_process,
    own_redis,
    redis_process,
    redis_server,
)

from pillion_conformance.plugin import (  # noqa: F401 - fixtures and hooks
    component_settings,
    home,
    open_component,
    pytest_configure,
    pytest_generate_tests,
    pytest_terminal_summary,
)
