"""``kind: Configuration``: how one runtime behaves."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

from pydantic import Field

from pillion.config.configuration import (
    ApiLogging,
    ApiRule,
    Configuration,
    api_rule,
    names_otlp_endpoint,
)
from pillion.config.model._base import Model, Resource
from pillion.config.model._fields import (
    NO_EFFECT,
    UNGUARDED,
    Flag,
    Whole,
    choice,
    converted,
    refuse,
)
from pillion.config.model._sections import (
    MTLS,
    AccessControl,
    Components,
    Feature,
    MetricHTTP,
    MetricRule,
    MetricWorkflow,
    NameResolution,
    Otel,
    Pipeline,
    Secrets,
    Wasm,
    Workflow,
    Zipkin,
)
from pillion.config.nodes import Plain
from pillion.config.reading import Reading
from pillion.policy.secret_scopes import SecretScope

API_GROUPS = (
    "invoke",
    "state",
    "publish",
    "bindings",
    "secrets",
    "actors",
    "metadata",
    "configuration",
    "lock",
    "unlock",
    "crypto",
    "subtlecrypto",
    "workflows",
    "conversation",
    "jobs",
    "subscribe",
    "shutdown",
    "healthz",
)
"""What ``spec.api`` can name; ``subscribe`` is there over gRPC only."""

API_VERSIONS = ("v1.0", "v1.0-alpha1", "v1.0-alpha2", "v1.0-beta1")
_SHORT_API_VERSIONS = ("v1", "v1alpha1", "v1alpha2", "v1beta1")


def _share(text: str) -> float | None:
    if not text:
        return None
    number = Plain(text).number
    if number is None or math.isnan(number) or not 0 <= number <= 1:
        refuse("must be a share from 0 to 1")
    return float(number)


class Tracing(Model):
    """Which traces are recorded, and where they go."""

    sampling_rate: Annotated[float | None, converted("a share from 0 to 1", _share)] = None
    stdout: Annotated[Flag, NO_EFFECT] = False
    zipkin: Annotated[Zipkin | None, NO_EFFECT] = None
    otel: Annotated[Otel | None, NO_EFFECT] = None


class Metrics(Model):
    """Which metrics are counted, and how."""

    enabled: Flag = True
    record_error_codes: Annotated[Flag, NO_EFFECT] = False
    http: Annotated[MetricHTTP | None, NO_EFFECT] = None
    latency_distribution_buckets: Annotated[tuple[Whole, ...], NO_EFFECT] = ()
    rules: Annotated[tuple[MetricRule, ...], NO_EFFECT] = ()
    workflow: Annotated[MetricWorkflow | None, NO_EFFECT] = None


class Api(Model):
    """One API of the local server."""

    name: Annotated[str, choice(*API_GROUPS)]
    version: Annotated[str, choice(*API_VERSIONS, *_SHORT_API_VERSIONS)]
    protocol: Annotated[str, choice("http", "grpc", ignore_case=True)]

    def rule(self) -> ApiRule:
        """Return it as the runtime compares it."""
        return api_rule(self.name, self.version, self.protocol)


class ApiLists(Model):
    """The APIs that are served, and those that are not."""

    allowed: tuple[Api, ...] = ()
    denied: tuple[Api, ...] = ()


class ApiLoggingSection(Model):
    """Which API calls are logged."""

    enabled: Flag = False
    obfuscate_urls: Annotated[Flag, NO_EFFECT] = Field(default=False, alias="obfuscateURLs")
    omit_health_checks: Annotated[Flag, NO_EFFECT] = False


class Logging(Model):
    """What is logged."""

    api_logging: ApiLoggingSection | None = None


class Spec(Model):
    """All sections; ``metrics`` is another name for ``metric`` and goes over it."""

    tracing: Tracing = Field(default_factory=Tracing.model_construct)
    metric: Metrics = Field(default_factory=Metrics.model_construct)
    metrics: Metrics | None = None
    api: ApiLists = Field(default_factory=ApiLists.model_construct)
    logging: Logging = Field(default_factory=Logging.model_construct)
    access_control: Annotated[AccessControl | None, UNGUARDED] = None
    secrets: Secrets | None = None
    components: Components | None = None
    mtls: Annotated[MTLS | None, UNGUARDED] = None
    http_pipeline: Annotated[Pipeline | None, UNGUARDED] = None
    app_http_pipeline: Annotated[Pipeline | None, UNGUARDED] = None
    name_resolution: Annotated[NameResolution | None, NO_EFFECT] = None
    features: Annotated[tuple[Feature, ...], NO_EFFECT] = ()
    wasm: Annotated[Wasm | None, NO_EFFECT] = None
    workflow: Annotated[Workflow | None, NO_EFFECT] = None


class ConfigurationResource(Resource):
    """All Configuration files, merged."""

    KIND: ClassVar[str] = "Configuration"
    API_VERSIONS: ClassVar[tuple[str, ...]] = ("dapr.io/v1alpha1",)
    IGNORE_CASE: ClassVar[bool] = False
    NAMED: ClassVar[bool] = False
    BY_FLAG: ClassVar[str] = "--config"

    spec: Spec = Field(default_factory=Spec.model_construct)

    def build(self, reading: Reading) -> Configuration:
        """Return what the runtime is built from."""
        self._check_secret_scopes(reading)
        spec = self.spec
        logging = spec.logging.api_logging
        metrics = spec.metrics
        said = metrics is not None and "enabled" in metrics.model_fields_set
        return Configuration(
            sampling=spec.tracing.sampling_rate,
            metrics_enabled=metrics.enabled if metrics and said else spec.metric.enabled,
            allowed_apis=frozenset(api.rule() for api in spec.api.allowed),
            denied_apis=frozenset(api.rule() for api in spec.api.denied),
            api_logging=ApiLogging(**logging.model_dump()) if logging else ApiLogging(),
            denied_components=frozenset(spec.components.deny if spec.components else ()),
            secret_scopes=self._secret_scopes(),
            otlp_endpoint=names_otlp_endpoint(reading.environ),
        )

    def _secret_scopes(self) -> tuple[SecretScope, ...]:
        return tuple(
            SecretScope(
                store=scope.store_name,
                default_allowed=scope.default_access == "allow",
                allowed=frozenset(scope.allowed_secrets),
                denied=frozenset(scope.denied_secrets),
            )
            for scope in (self.spec.secrets.scopes if self.spec.secrets else ())
        )

    def _check_secret_scopes(self, reading: Reading) -> None:
        seen: set[str] = set()
        for index, scope in enumerate(self.spec.secrets.scopes if self.spec.secrets else ()):
            if scope.store_name in seen:
                path = ("spec", "secrets", "scopes", index, "storeName")
                reading.problem(path, "the store has a scope already; put the two together")
            seen.add(scope.store_name)


KINDS = (ConfigurationResource,)
