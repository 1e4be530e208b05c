"""``kind: Component``, with types of a third party."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import probes

from pillion import registry
from pillion.config.component import ComponentSpec, MetadataItem, SecretReference, filled
from pillion.config.load import Resources, load_resources
from pillion.errors import Invalid

HEAD = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: store}\n"
HOST = "  - {name: host, value: a}\n"


@pytest.fixture(autouse=True)
def _types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        probes.install(tmp_path / "site", patch)
        yield
    registry._third_party.cache_clear()


def load(folder: Path, text: str, **environ: str) -> Resources:
    """Load one file."""
    folder = folder / "resources"
    folder.mkdir(exist_ok=True)
    (folder / "c.yaml").write_text(text)
    return load_resources([folder], app_id="orders", namespace="default", environ=environ)


def spec(folder: Path, body: str, **environ: str) -> ComponentSpec:
    """Load one component."""
    [found] = load(folder, HEAD + body, **environ).of(ComponentSpec)
    return found


def problems(folder: Path, body: str, head: str = HEAD, **environ: str) -> list[str]:
    """Return what is wrong, without the name of the file."""
    with pytest.raises(Invalid) as caught:
        load(folder, head + body, **environ)
    return [line.partition("c.yaml:")[2] for line in caught.value.message.splitlines()]


def test_minimal(tmp_path: Path) -> None:
    """Type and name suffice; the rest has Dapr's defaults."""
    found = spec(tmp_path, f"spec:\n  type: state.probe\n  metadata:\n{HOST}")
    assert found == ComponentSpec(
        name="store",
        type_name="state.probe",
        version="v1",
        metadata=(MetadataItem(name="host", value="a"),),
        ignore_errors=False,
        init_timeout=5.0,
        secret_store="",
    )
    assert found.mark.endswith("c.yaml:3:18")
    assert found.metadata[0].mark.endswith("c.yaml:7:12")


def test_all_fields(tmp_path: Path) -> None:
    """Every field is read; references to secrets stay references and the environment is read."""
    found = spec(
        tmp_path,
        """\
auth: {secretStore: vault}
scopes: [orders]
spec:
  type: state.probe
  version: v2
  ignoreErrors: true
  initTimeout: 1m
  metadata:
  - {name: HOST, value: 8080}
  - {name: password, secretKeyRef: {name: db}}
  - {name: mode, envRef: MODE}
  - {name: keyPrefix, value: "{appID}"}
  - {name: primaryEncryptionKey, secretKeyRef: {name: db, key: aes}}
""",
        MODE="safe",
    )
    assert found.metadata == (
        MetadataItem(name="HOST", value="8080"),
        MetadataItem(name="password", value=SecretReference("db", "db")),
        MetadataItem(name="mode", value="safe", hidden=True),
        MetadataItem(name="keyPrefix", value="{appID}"),
        MetadataItem(name="primaryEncryptionKey", value=SecretReference("db", "aes")),
    )
    assert (found.version, found.ignore_errors, found.init_timeout) == ("v2", True, 60.0)
    assert found.secret_store == "vault"
    assert found.references == (SecretReference("db", "db"), SecretReference("db", "aes"))
    assert "8080" not in repr(found)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(
            f"spec:\n  type: state.prob\n  metadata:\n{HOST}",
            '5:9: spec.type: must be a known type, not "state.prob"; did you mean "state.probe"?'
            "; known are ",
            id="type of no component",
        ),
        pytest.param(
            f"spec:\n  type: stat.probe\n  metadata:\n{HOST}",
            "5:9: spec.type: must begin with state, lock, secretstores, then a dot and a name,"
            ' not "stat.probe"; did you mean "state"?',
            id="type of no kind",
        ),
        pytest.param(
            "spec:\n  type: registry.sqlite\n",
            "5:9: spec.type: must begin with state, lock, secretstores,",
            id="a kind that YAML does not declare",
        ),
        pytest.param(
            f"spec:\n  type: state.probe\n  metadata:\n{HOST}  - {{name: pasword, value: x}}\n",
            '8:12: spec.metadata[1].name: pasword is not a setting; did you mean "password"?;'
            " allowed are host, password, mode, size, broken, bug, hang, keyPrefix, actorState",
            id="unknown key",
        ),
        pytest.param(
            f"spec:\n  type: state.probe\n  metadata:\n{HOST}  - {{name: mode, value: saef}}\n",
            "8:12: spec.metadata[1].name: mode must be one of fast, safe, not 'saef';"
            ' did you mean "safe"?',
            id="value that is no choice",
        ),
        pytest.param(
            f"spec:\n  type: state.probe\n  metadata:\n{HOST}  - {{name: Size, value: 10}}\n",
            "8:12: spec.metadata[1].name: size must be a whole number from 1 to 9, not '10'",
            id="value out of range",
        ),
        pytest.param(
            "spec:\n  type: state.probe\n",
            "5:3: spec.metadata: state.probe: host is missing: server and port",
            id="missing key",
        ),
        pytest.param(
            f"spec:\n  type: state.probe\n  metadata:\n{HOST}"
            "  - {name: mode, value: safe}\n  - {name: size, value: 9}\n",
            "7:3: spec.metadata: state.probe: a safe one has a size of 5 at most",
            id="values that do not go together",
        ),
        pytest.param(
            f"spec:\n  type: state.probe\n  metadata:\n{HOST}  - {{name: HOST, value: b}}\n",
            "8:12: spec.metadata[1].name: HOST is there twice, first in line 7",
            id="key twice",
        ),
        pytest.param(
            f"spec:\n  type: state.probe\n  metadata:\n{HOST}"
            "  - {name: keyPrefix, value: 'a||b'}\n",
            "8:12: spec.metadata[1].name: keyPrefix must be appid, name, namespace, none or a text"
            " without ||, not 'a||b'",
            id="key of the runtime",
        ),
        pytest.param(
            f"spec:\n  type: state.probe\n  metadata:\n{HOST}"
            "  - {name: primaryEncryptionKey, value: c0ffee}\n",
            "8:12: spec.metadata[1].name: primaryEncryptionKey must be an AES key of 16, 24 or 32"
            " bytes in hexadecimal digits",
            id="secret is not quoted",
        ),
        pytest.param(
            f"spec:\n  type: state.probe\n  metadata:\n{HOST}"
            "  - {name: password, secretKeyRef: {name: db}}\n",
            '8:36: spec.metadata[1].secretKeyRef: needs the secret "db", but auth.secretStore is'
            " not set",
            id="secret without a store",
        ),
        pytest.param(
            f"spec:\n  type: state.probe\n  metadata:\n{HOST}"
            "  - {name: password, envRef: NONE}\n",
            "8:30: spec.metadata[1].envRef: the environment variable NONE is not set",
            id="variable that is not set",
        ),
        pytest.param(
            "spec:\n  type: state.probe\n  metadata:\n  - {name: host, value: '{podName}'}\n",
            "7:5: spec.metadata[0]: has {podName}, but the variable POD_NAME is not set",
            id="no pod",
        ),
        pytest.param(
            f"spec:\n  type: state.probe\n  initTimeout: 5\n  metadata:\n{HOST}",
            "6:16: spec.initTimeout: must be a duration with a unit, such as 5s or 5ms, not",
            id="initTimeout",
        ),
        pytest.param(
            f"spec:\n  type: state.probe\n  version: latest\n  metadata:\n{HOST}",
            '6:12: spec.version: must be a version such as v1, not "latest"',
            id="version",
        ),
    ],
)
def test_mistakes(tmp_path: Path, body: str, expected: str) -> None:
    """Each mistake is one line with its place, what is allowed, and the nearest valid name."""
    [line] = problems(tmp_path, body)
    assert line.startswith(expected), line


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    """One load names the mistakes of all entries of all files."""
    body = f"""\
spec:
  type: state.probe
  metadata:
  - {{name: mode, value: x}}
  - {{name: size, value: y}}
  - {{name: nothing, value: z}}
---
{HEAD}spec: {{type: state.sqlit}}
"""
    assert [line.split(": ")[0] for line in problems(tmp_path, body)] == [
        "7:3", "7:12", "8:12", "9:12", "13:18", "14:14",
    ]  # fmt: skip


def test_value_from_the_environment_is_not_quoted(tmp_path: Path) -> None:
    """What a variable holds may be a secret, and no message repeats it."""
    body = f"spec:\n  type: state.probe\n  metadata:\n{HOST}  - {{name: size, envRef: SIZE}}\n"
    [line] = problems(tmp_path, body, SIZE="hunter2")
    assert line.endswith("size must be a whole number from 1 to 9")


def test_kinds_of_dapr_that_are_not_served_are_skipped(tmp_path: Path) -> None:
    """A folder that ``dapr init`` wrote loads, and a warning says what is left out."""
    resources = load(tmp_path, HEAD + "spec: {type: pubsub.redis, version: v1, metadata: []}\n")
    assert resources.found == ()
    [notice] = resources.notices
    assert notice.warning
    assert notice.text.endswith(
        "pubsub.redis: the component is skipped: pubsub is not supported yet"
    )


def test_templates() -> None:
    """The four templates are filled in, and nothing else in braces is."""
    templates = {"uuid": "1-2", "podName": "p", "namespace": "n.a", "appID": "a"}
    assert (
        filled("{uuid}/{podName}/{namespace}/{appID}/{appid}", templates) == "1-2/p/n.a/a/{appid}"
    )
    assert filled("plain", {}) == "plain"
