"""What the SDK's tests share."""

import pytest

RUNTIME_VARIABLES = (
    "PILLION_HTTP_ENDPOINT",
    "DAPR_HTTP_ENDPOINT",
    "PILLION_HTTP_PORT",
    "DAPR_HTTP_PORT",
    "DAPR_RUNTIME_HOST",
    "PILLION_API_TOKEN",
    "DAPR_API_TOKEN",
    "PILLION_APP_PORT",
    "APP_PORT",
)


@pytest.fixture(autouse=True)
def _no_runtime_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in RUNTIME_VARIABLES:
        monkeypatch.delenv(name, raising=False)
