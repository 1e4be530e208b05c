"""What Configuration files say, as values that the runtime is built from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from pillion.policy.secret_scopes import SecretScope

ApiRule: TypeAlias = tuple[str, str, str]
"""Protocol (``http`` or ``grpc``), version and group, as ``api_rule`` makes them."""

ApiAccess: TypeAlias = Callable[[str, str, str], bool]
"""Says for (group, version, protocol) whether that API is served."""

DEFAULT_SAMPLING = 0.0001
"""Of all traces, where nothing says otherwise."""

_ALWAYS_SERVED = "healthz"
_OTLP_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiLogging:
    """Which API calls are logged (``spec.logging.apiLogging``).

    Attributes:
        enabled: a line per call; a command-line flag goes over it.
        obfuscate_urls: log routes, never the paths that were called.
        omit_health_checks: leave out health checks.
    """

    enabled: bool = False
    obfuscate_urls: bool = False
    omit_health_checks: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """All Configuration files, merged; without any, the defaults.

    Attributes:
        sampling: the share of traces to record, 0 to 1, or None where no file says.
        metrics_enabled: count and serve metrics.
        allowed_apis: the only APIs served of a protocol that is among them.
        denied_apis: APIs that are not served, whatever is allowed.
        api_logging: which API calls are logged.
        denied_components: types of components, ``type`` or ``type/version``, that are not opened.
        secret_scopes: which secrets the app may read, store by store.
        otlp_endpoint: True when the environment names an OTLP endpoint.
    """

    sampling: float | None = None
    metrics_enabled: bool = True
    allowed_apis: frozenset[ApiRule] = frozenset()
    denied_apis: frozenset[ApiRule] = frozenset()
    api_logging: ApiLogging = ApiLogging()
    denied_components: frozenset[str] = frozenset()
    secret_scopes: tuple[SecretScope, ...] = ()
    otlp_endpoint: bool = False

    def sampling_rate(self) -> float:
        """Return the share of traces to record when no caller decided; 0 is off."""
        if self.sampling is not None:
            return self.sampling
        return 1.0 if self.otlp_endpoint else DEFAULT_SAMPLING

    def api_rules(self) -> ApiAccess:
        """Return what says whether an API is served; ``healthz`` always is."""
        allowed, denied = self.allowed_apis, self.denied_apis
        restricted = {protocol for protocol, _, _ in allowed}

        def served(group: str, version: str, protocol: str) -> bool:
            rule = api_rule(group, version, protocol)
            if group == _ALWAYS_SERVED:
                return True
            return rule not in denied and (protocol not in restricted or rule in allowed)

        return served


def api_rule(group: str, version: str, protocol: str) -> ApiRule:
    """Return the rule for an API; ``v1.0-alpha1`` and ``v1alpha1`` are the same version."""
    major, _, stage = version.partition("-")
    return protocol, major.removesuffix(".0") + stage, group


def names_otlp_endpoint(environ: Mapping[str, str]) -> bool:
    """Return whether the environment says where traces go (OpenTelemetry's variables)."""
    return any(environ.get(name) for name in _OTLP_ENDPOINTS)
