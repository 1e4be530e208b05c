"""What one runtime is told at start: the flags of ``pillion sidecar``, as values with units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

MiB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class AppHealthOptions:
    """How the app's health is probed (``--enable-app-health-check`` and its companions).

    Attributes:
        path: the path that answers 2xx when the app is well.
        interval: seconds between probes.
        timeout: seconds for one probe; less than ``interval``.
        threshold: failures in a row that make the app unhealthy.
    """

    path: str = "/healthz"
    interval: float = 5.0
    timeout: float = 0.5
    threshold: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """One runtime.

    Attributes:
        app_id: letters, digits, ``-`` and ``_``.
        namespace: from ``NAMESPACE``, else ``default``.
        trust_domain: the SPIFFE trust domain of the local authority.
        home: ``$PILLION_HOME``; registry, authority and run files live below it.
        app_port: where the app listens; 0 when it has no server.
        app_protocol: ``http`` or ``https``.
        app_host: the app's host (``--app-channel-address``).
        app_max_concurrency: calls to the app at one time; -1 for no limit.
        app_health: probes of the app, or None to take it as well once its port is open.
        http_port: the local API's port; 0 takes a free one.
        grpc_port: accepted and told to the app; nothing listens there yet.
        listen_addresses: where the local API listens; empty for all.
        public_port: a listener with health and metadata only, or None.
        public_listen_address: its address; empty for all.
        unix_socket_dir: listen on ``<dir>/dapr-<app-id>-http.socket`` instead of TCP.
        mesh_port: where other runtimes call this one; 0 takes a free one.
        mesh_listen_address: the address that listener binds; empty for ``host_ip``.
        host_ip: the address that other runtimes are told.
        metrics_port: Prometheus; 0 takes a free one, None is off.
        metrics_listen_address: its address; empty for all.
        max_body_size: bytes in one request or reply body; -1 for no limit.
        read_buffer_size: bytes in one header block.
        allowed_origins: CORS origins; empty for off, ``("*",)`` for any.
        labels: the instance's labels, such as ``{"version": "v1"}``.
        load_balancer: ``peak-ewma``, ``round-robin`` or ``random``.
        lease: seconds after which a silent instance is forgotten.
        graceful_shutdown: seconds that calls in flight are given at the end.
        block_shutdown: seconds to keep serving after SIGTERM, before the drain.
        resources_paths: folders of YAML resources.
        config_files: Configuration files, later ones win.
        api_token: asked of callers of the local API, from ``DAPR_API_TOKEN``.
        app_api_token: sent to the app, from ``APP_API_TOKEN``.
        api_logging: an info line per API call.
        disable_init_endpoints: of ``config`` and ``subscribe``.
        log_level: ``debug``, ``info``, ``warning`` or ``error``.
        log_as_json: one JSON object per line.
        command: what ``pillion run`` started beside this runtime, for ``pillion list``.
    """

    app_id: str
    namespace: str = "default"
    trust_domain: str = "public"
    home: Path = field(default_factory=lambda: Path.home() / ".pillion")
    app_port: int = 0
    app_protocol: str = "http"
    app_host: str = "127.0.0.1"
    app_max_concurrency: int = -1
    app_health: AppHealthOptions | None = None
    http_port: int = 3500
    grpc_port: int = 50001
    listen_addresses: tuple[str, ...] = ()
    public_port: int | None = None
    public_listen_address: str = ""
    unix_socket_dir: Path | None = None
    mesh_port: int = 0
    mesh_listen_address: str = ""
    host_ip: str = "127.0.0.1"
    metrics_port: int | None = 9090
    metrics_listen_address: str = ""
    max_body_size: int = 4 * MiB
    read_buffer_size: int = 4096
    allowed_origins: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    load_balancer: str = "peak-ewma"
    lease: float = 5.0
    graceful_shutdown: float = 5.0
    block_shutdown: float = 0.0
    resources_paths: tuple[Path, ...] = ()
    config_files: tuple[Path, ...] = ()
    api_token: str = ""
    app_api_token: str = ""
    api_logging: bool = False
    disable_init_endpoints: frozenset[str] = frozenset()
    log_level: str = "info"
    log_as_json: bool = False
    command: str = ""
