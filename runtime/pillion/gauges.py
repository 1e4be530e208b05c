"""Every number of the runtime's own that the metrics page shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pillion.blocks.metrics import Gauge

if TYPE_CHECKING:
    from pillion.runtime import Runtime

_NONE: dict[str, str] = {}


def gauges(runtime: Runtime) -> list[Gauge]:
    """Return them, read from the parts when the page is asked for."""
    api, app, inbound = runtime.api, runtime.app, runtime.inbound
    retries, renewal = runtime.outbound.retries, runtime.renewal
    peers, listener = runtime.peers, runtime.listener
    components, reload = runtime.components, runtime.reload
    return [
        Gauge(
            "api_requests_total", "requests to the local API", lambda: api.counters.requests, _NONE
        ),
        Gauge(
            "api_connections",
            "open connections to the local API",
            lambda: api.open_connections,
            _NONE,
        ),
        Gauge(
            "api_connections_refused_total",
            "connections over the limit",
            lambda: api.counters.refused,
            _NONE,
        ),
        Gauge(
            "api_malformed_total",
            "requests that could not be read",
            lambda: api.counters.malformed,
            _NONE,
        ),
        Gauge(
            "api_timeouts_total",
            "requests that did not arrive in time",
            lambda: api.counters.timeouts,
            _NONE,
        ),
        Gauge("app_healthy", "1 while the app takes calls", lambda: float(app.healthy), _NONE),
        Gauge("app_probes_total", "health probes of the app", lambda: app.probes, _NONE),
        Gauge(
            "app_probes_failed_total", "health probes that failed", lambda: app.failed_probes, _NONE
        ),
        Gauge(
            "admission_running",
            "calls that the app works on",
            lambda: inbound.admission.running,
            _NONE,
        ),
        Gauge(
            "admission_waiting",
            "calls that wait for the app",
            lambda: inbound.admission.waiting,
            _NONE,
        ),
        Gauge(
            "admission_shed_total",
            "calls refused because too many waited",
            lambda: inbound.admission.shed,
            _NONE,
        ),
        Gauge("retries_total", "calls tried again", lambda: retries.retries, _NONE),
        Gauge(
            "retries_over_budget_total",
            "retries the budget refused",
            lambda: retries.over_budget,
            _NONE,
        ),
        Gauge(
            "retries_exhausted_total",
            "calls that failed after every retry",
            lambda: retries.exhausted,
            _NONE,
        ),
        Gauge(
            "watched_apps", "called apps that are watched", lambda: runtime.directory.apps, _NONE
        ),
        Gauge(
            "mesh_connections",
            "mesh connections",
            lambda: listener.connections_open,
            {"direction": "in"},
        ),
        Gauge(
            "mesh_connections",
            "mesh connections",
            lambda: peers.connections_open,
            {"direction": "out"},
        ),
        Gauge(
            "mesh_streams",
            "calls on mesh connections",
            lambda: listener.streams_open,
            {"direction": "in"},
        ),
        Gauge(
            "mesh_streams",
            "calls on mesh connections",
            lambda: peers.streams_open,
            {"direction": "out"},
        ),
        Gauge(
            "mesh_refused_total",
            "peers without a valid identity",
            lambda: listener.counters.connections_refused,
            {"direction": "in"},
        ),
        Gauge(
            "mesh_refused_total",
            "peers without a valid identity",
            lambda: peers.counters.identity_refused,
            {"direction": "out"},
        ),
        Gauge(
            "mesh_broken_total",
            "connections that broke",
            lambda: peers.counters.connections_broken,
            _NONE,
        ),
        Gauge(
            "mesh_protocol_errors_total",
            "connections closed for what the peer sent",
            lambda: listener.counters.protocol_errors,
            {"direction": "in"},
        ),
        Gauge(
            "mesh_protocol_errors_total",
            "connections closed for what the peer sent",
            lambda: peers.counters.protocol_errors,
            {"direction": "out"},
        ),
        Gauge("components_loaded", "components that are open", lambda: components.loaded, _NONE),
        Gauge(
            "components_failed_total",
            "components that could not be opened",
            lambda: components.failures,
            _NONE,
        ),
        Gauge("reloads_total", "changed files that were applied", lambda: reload.applied, _NONE),
        Gauge(
            "reloads_refused_total",
            "changed files that were refused",
            lambda: reload.refused,
            _NONE,
        ),
        Gauge(
            "reload_refused",
            "1 while the files differ from what is in force, because they were refused",
            lambda: float(reload.refusal is not None),
            _NONE,
        ),
        Gauge("certificates_renewed_total", "certificates renewed", lambda: renewal.rotated, _NONE),
        Gauge("certificates_failed_total", "renewals that failed", lambda: renewal.failed, _NONE),
    ]
