"""The secrets API of a real runtime: the environment, a file, and the scopes of an app."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.runtimes import Machine, error_of

pytestmark = pytest.mark.anyio

COMPONENT = """
apiVersion: dapr.io/v1alpha1
kind: Component
metadata:
  name: localsecretstore
spec:
  type: secretstores.local.file
  version: v1
  metadata:
  - name: secretsFile
    value: {file}
  - name: nestedSeparator
    value: ":"
"""
SCOPES = """
apiVersion: dapr.io/v1alpha1
kind: Configuration
metadata:
  name: scopes
spec:
  secrets:
    scopes:
    - storeName: localsecretstore
      defaultAccess: deny
      allowedSecrets: ["secret"]
"""


async def test_environment_without_any_component(machine: Machine) -> None:
    """The embedded store gives the runtime's environment, without its tokens."""
    env = {"ORDERS_PASSWORD": "x y", "APP_API_TOKEN": "hidden"}
    runtime = await machine.runtime("orders", env=env)
    path = "/v1.0/secrets/secretstore"
    reply = await runtime.ask("GET", f"{path}/ORDERS_PASSWORD")
    assert (reply.status, json.loads(reply.body)) == (200, {"ORDERS_PASSWORD": "x y"})
    every = json.loads((await runtime.ask("GET", f"{path}/bulk")).body)
    assert every["ORDERS_PASSWORD"] == {"ORDERS_PASSWORD": "x y"}
    assert "APP_API_TOKEN" not in every
    assert error_of(await runtime.ask("GET", f"{path}/APP_API_TOKEN"))[0] == 500


async def test_file_with_scopes(machine: Machine, tmp_path: Path) -> None:
    """A file of the quickstarts' form, of which a Configuration opens one secret."""
    secrets = tmp_path / "secrets.json"
    secrets.write_text('{"secret": "YourPasskeyHere", "redis": {"password": "r"}}')
    folder = tmp_path / "components"
    folder.mkdir()
    (folder / "secrets.yaml").write_text(COMPONENT.format(file=secrets))
    config = tmp_path / "config.yaml"
    config.write_text(SCOPES)
    flags = ("--resources-path", str(folder), "--config", str(config))
    runtime = await machine.runtime("orders", *flags)
    path = "/v1.0/secrets/localsecretstore"
    assert json.loads((await runtime.ask("GET", f"{path}/secret")).body) == {
        "secret": "YourPasskeyHere"
    }
    denied = await runtime.ask("GET", f"{path}/redis:password")
    assert error_of(denied) == (
        403,
        "ERR_PERMISSION_DENIED",
        'access denied by policy to get "redis:password" from "localsecretstore"',
    )
    assert json.loads((await runtime.ask("GET", f"{path}/bulk")).body) == {
        "secret": {"secret": "YourPasskeyHere"}
    }
    unknown = await runtime.ask("GET", "/v1.0/secrets/nope/secret")
    assert error_of(unknown)[:2] == (401, "ERR_SECRET_STORE_NOT_FOUND")
