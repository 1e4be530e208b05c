"""Folders and files, from which resources are loaded."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from pillion.config.configuration import Configuration
from pillion.config.http_endpoint import HTTPEndpoint
from pillion.config.load import Resources, load_resources
from pillion.errors import Invalid


def endpoint(name: str, url: str = "http://a.example.com") -> str:
    return (
        "apiVersion: dapr.io/v1alpha1\nkind: HTTPEndpoint\n"
        f"metadata: {{name: {name}}}\nspec: {{baseUrl: '{url}'}}\n"
    )


def load(
    *paths: Path, config: tuple[Path, ...] = (), environ: Mapping[str, str] | None = None
) -> Resources:
    return load_resources(
        paths, app_id="orders", namespace="default", environ=environ or {}, config_files=config
    )


def names(resources: Resources) -> list[str]:
    return [found.name for found in resources.of(HTTPEndpoint)]


def files(folder: Path, **texts: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def test_nothing_to_load() -> None:
    """Without any YAML the defaults are there."""
    resources = load()
    assert resources == Resources()
    assert resources.configuration == Configuration()
    assert resources.of(HTTPEndpoint) == ()


def test_files_of_a_folder(tmp_path: Path) -> None:
    """YAML files directly in the folder are read by name, and nothing else is."""
    files(tmp_path, b=endpoint("b1") + "---\n" + endpoint("b2"), c=endpoint("c"))
    (tmp_path / "a.yml").write_text(endpoint("a"))
    (tmp_path / "d.YAML").write_text(endpoint("d"))
    (tmp_path / "e.yaml.bak").write_text(": broken")
    (tmp_path / "f.json").write_text(": broken")
    (tmp_path / "folder.yaml").mkdir()
    files(tmp_path / "deeper", x=": broken")
    os.mkfifo(tmp_path / "pipe.yaml")
    assert names(load(tmp_path)) == ["a", "b1", "b2", "c", "d"]


def test_later_paths_add(tmp_path: Path) -> None:
    """Several folders count together, in their order."""
    one = files(tmp_path / "one", z=endpoint("one"))
    two = files(tmp_path / "two", a=endpoint("two"))
    assert names(load(one, two)) == ["one", "two"]


def test_a_file_is_read_once(tmp_path: Path) -> None:
    """A folder given twice, or a link to a file, is no second resource of the same name."""
    folder = files(tmp_path / "one", a=endpoint("a"))
    (folder / "b.yaml").symlink_to(folder / "a.yaml")
    assert names(load(folder, folder)) == ["a"]


def test_same_name_in_two_files(tmp_path: Path) -> None:
    """A name that is taken is refused with both places."""
    one = files(tmp_path / "one", a=endpoint("pay"))
    two = files(tmp_path / "two", b=endpoint("pay"))
    with pytest.raises(Invalid) as caught:
        load(one, two)
    assert caught.value.message == (
        f'{two}/b.yaml:3:18: metadata.name: HTTPEndpoint "pay" is there already, '
        f"at {one}/a.yaml:3:18"
    )


def test_all_problems_at_once(tmp_path: Path) -> None:
    """One message names what is wrong in every file, in the order of files and lines."""
    folder = files(
        tmp_path / "r",
        a=endpoint("a", "x") + "---\n" + endpoint("b", "y"),
        b="a: [",
        c=endpoint("c", "z"),
    )
    config = files(tmp_path / "c", config="spec: {tracing: {samplingRate: 2}}") / "config.yaml"
    with pytest.raises(Invalid) as caught:
        load(folder, tmp_path / "missing", config=(config, tmp_path / "none.yaml"))
    places = [line.split(": ")[0] for line in caught.value.message.splitlines()]
    assert [place.removeprefix(f"{tmp_path}/") for place in places] == [
        "r/a.yaml:4:17",
        "r/a.yaml:9:17",
        "r/b.yaml:1:5",
        "r/c.yaml:4:17",
        "missing:1:1",
        "c/config.yaml:1:32",
        "none.yaml:1:1",
    ]
    assert caught.value.reason == "configuration"


def test_missing_folder(tmp_path: Path) -> None:
    """A folder that is not there, or is a file, is a problem."""
    file = files(tmp_path, a=endpoint("a")) / "a.yaml"
    for path, why in ((tmp_path / "no", "No such file or directory"), (file, "Not a directory")):
        with pytest.raises(Invalid) as caught:
            load(path)
        assert caught.value.message == f"{path}:1:1: is no folder of resources: {why}"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path: Path) -> None:
    """A file that may not be read is a problem."""
    (files(tmp_path, a=endpoint("a")) / "a.yaml").chmod(0)
    with pytest.raises(Invalid, match="cannot be read: Permission denied"):
        load(tmp_path)


def test_configuration_files_are_merged(tmp_path: Path) -> None:
    """Fields of later files go over those of earlier ones, and the others stay."""
    folder = files(
        tmp_path,
        one="spec: {tracing: {samplingRate: '0.5'}, logging: {apiLogging: {enabled: true}},"
        " api: {allowed: [{name: state, version: v1.0, protocol: http}]}}",
        two="spec: {metric: {enabled: false}, logging: {apiLogging: {omitHealthChecks: true}},"
        " api: {allowed: [{name: invoke, version: v1.0, protocol: http}]}}",
    )
    both = (folder / "one.yaml", folder / "two.yaml")
    merged = load(config=both).configuration
    assert merged.sampling == 0.5
    assert not merged.metrics_enabled
    assert merged.api_logging.enabled
    assert merged.api_logging.omit_health_checks
    assert merged.allowed_apis == {("http", "v1", "invoke")}
    assert load(config=both[::-1]).configuration.allowed_apis == {("http", "v1", "state")}


def test_merged_problems_name_their_file(tmp_path: Path) -> None:
    """What is wrong in a merged Configuration is placed in the file that says it."""
    folder = files(
        tmp_path, one="spec: {wasm: {a: 1}}", two="spec: {wasm: {b: 1}, metric: {enabled: x}}"
    )
    with pytest.raises(Invalid) as caught:
        load(config=(folder / "one.yaml", folder / "two.yaml"))
    assert [line.split(": ")[:2] for line in caught.value.message.splitlines()] == [
        [f"{folder}/one.yaml:1:15", "spec.wasm.a"],
        [f"{folder}/two.yaml:1:15", "spec.wasm.b"],
        [f"{folder}/two.yaml:1:40", "spec.metric.enabled"],
    ]


def test_values_of_variables_are_never_shown(tmp_path: Path) -> None:
    """What a variable holds does not reach a message, whatever is wrong with it."""
    config = files(
        tmp_path, c="spec: {tracing: {samplingRate: $T, stdout: x$T}, mtls: {enabled: '${T}'}}"
    )
    with pytest.raises(Invalid) as caught:
        load(config=(config / "c.yaml",), environ={"T": "hunter2"})
    assert len(caught.value.message.splitlines()) == 3
    assert "hunter2" not in caught.value.message
    assert 'not "$T"' in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "kind: $T",
        "spec: {$T: 1}",
        "$T: 1",
        "a: *$T",
        "$T: 1\n$T: 1",
        "a: !$T b",
        "a: &$T [*$T]",
        "spec: {tracing: {$T: 1}, wasm: $T}",
        "spec: {secrets: {scopes: [{storeName: $T}, {storeName: $T}]}}",
    ],
)
def test_values_of_variables_are_not_shown_as_names_either(tmp_path: Path, text: str) -> None:
    """A variable that became a key, a kind, an anchor or a tag is called by its own name."""
    config = files(tmp_path, c=text) / "c.yaml"
    with pytest.raises(Invalid) as caught:
        load(config=(config,), environ={"T": "hunter2"})
    assert "hunter2" not in caught.value.message


def test_messages_stay_on_their_lines(tmp_path: Path) -> None:
    """Names with line breaks and terminal codes in them cannot forge lines of a log."""
    text = '"a\\nb\\e[31m": 1\nkind: "Comp\\nonent"\napiVersion: dapr.io/v1alpha1\n'
    (notice,) = load(files(tmp_path, a=text)).notices
    assert "kind Comp onent of" in notice.text
    with pytest.raises(Invalid) as caught:
        load(config=(files(tmp_path, a='"a\\nb\\e[31m": 1') / "a.yaml",))
    assert "/a.yaml:1:1: a b [31m: unknown field" in caught.value.message


def test_values_that_may_be_secret_are_never_shown(tmp_path: Path) -> None:
    """Headers and keys are kept out of messages and of what objects print."""
    text = (
        "apiVersion: dapr.io/v1alpha1\nkind: HTTPEndpoint\nmetadata: {name: a}\n"
        "spec:\n  baseUrl: https://a.example.com\n"
        "  headers: [{name: x, value: hunter2}]\n"
        "  clientTLS:\n    certificate: {value: hunter2}\n    privateKey: {value: hunter2}\n"
    )
    with pytest.raises(Invalid) as caught:
        load(files(tmp_path, a=text))
    assert "hunter2" not in caught.value.message
    secret = HTTPEndpoint(name="a", base_url="http://a", headers=((b"x", b"hunter2"),))
    assert "hunter2" not in repr(secret)


def test_many_problems_are_cut(tmp_path: Path) -> None:
    """A file that is wrong everywhere is a message of bounded length, in bounded time."""
    fields = "\n".join(f"  f{i}: 1" for i in range(20_000))
    text = endpoint("a").replace("spec: {", f"spec:\n{fields}\n  x: {{")
    start = time.process_time()
    with pytest.raises(Invalid) as caught:
        load(files(tmp_path, a=text))
    lines = caught.value.message.splitlines()
    assert len(lines) == 51
    assert lines[-1] == "... and 19952 more"
    assert time.process_time() - start < 10


def test_large_files_take_no_longer_than_their_size(tmp_path: Path) -> None:
    """Time grows with the size of a file, not with its square."""

    def load_headers(count: int) -> float:
        headers = "".join(f"  - {{name: x, value: {i}}}\n" for i in range(count))
        text = (
            endpoint("a").replace("spec: {", f"spec:\n  headers:\n{headers}  ").replace("'}", "'")
        )
        folder = files(tmp_path / str(count), a=text)
        start = time.process_time()
        (found,) = load(folder).of(HTTPEndpoint)
        assert len(found.headers) == count
        return time.process_time() - start

    load_headers(1)
    assert load_headers(16_000) < 64 * load_headers(1000)


def test_notices_are_in_order(tmp_path: Path) -> None:
    """Notices come by file and line, and print as one line each."""
    folder = files(
        tmp_path, a="kind: MCPServer\napiVersion: dapr.io/v1alpha1\n", b="spec: 1\n---\nspec: 2\n"
    )
    assert [(notice.where, notice.warning) for notice in load(folder).notices] == [
        (f"{folder}/a.yaml:1", True),
        (f"{folder}/b.yaml:1", True),
        (f"{folder}/b.yaml:3", True),
    ]
    assert (
        str(load(folder).notices[1])
        == f"{folder}/b.yaml:1: the document is skipped: it has no kind"
    )


SCRIPT = """
import sys
from pathlib import Path
from pillion.config.load import load_resources
load_resources([Path(sys.argv[1])], app_id="a", namespace="default", environ={})
print(*sorted({name.partition(".")[0] for name in sys.modules} & {"pydantic", "yaml", "difflib"}))
"""


def test_without_yaml_nothing_heavy_is_imported(tmp_path: Path) -> None:
    """PyYAML and pydantic are imported only when there is a file to read."""

    def imported(folder: Path) -> str:
        return subprocess.run(
            [sys.executable, "-c", SCRIPT, folder], check=True, capture_output=True, text=True
        ).stdout.strip()

    assert imported(tmp_path) == ""
    assert imported(files(tmp_path, a=endpoint("a"))) == "pydantic yaml"
