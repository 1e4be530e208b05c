"""Tests of the client and its components need its libraries."""

from __future__ import annotations

import pytest
from tests.support import etcd_server as etcd


@pytest.fixture(autouse=True)
def _etcd_is_installed() -> None:
    if reason := etcd.missing():
        pytest.skip(reason)
