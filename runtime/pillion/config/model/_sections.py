"""The sections of a Configuration that the runtime does not act on yet.

They are checked as strictly as the others; a section moves to ``configuration.py`` with the code
that acts on it.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo

from pillion.config.model._base import Model, reading_of
from pillion.config.model._fields import (
    Flag,
    Free,
    Name,
    Seconds,
    Text,
    Whole,
    choice,
    refuse,
    seconds,
)
from pillion.config.model._references import NamedValue
from pillion.config.nodes import Items, Node, Table

Action = Annotated[str, choice("allow", "deny", ignore_case=True)]
DefaultAction = Annotated[str, choice("allow", "deny", ignore_case=True, empty=True)]


def _headers(value: Node, info: ValidationInfo) -> Any:
    """Take ``name=value,name=value`` for the list that it stands for."""
    if not isinstance(value, str):
        return value
    mark = reading_of(info).root.mark
    items = Items(mark)
    for pair in filter(None, value.split(",")):
        name, separator, text = pair.partition("=")
        if not separator or not name.strip():
            refuse("must be a list, or text such as name=value,name=value", quote=False)
        table = Table(mark)
        table.put("name", name.strip(), mark, mark)
        table.put("value", text.strip(), mark, mark)
        items.put(table, mark)
    return items


class Zipkin(Model):
    """A Zipkin server, by full URL."""

    endpoint_address: Text = ""


class Otel(Model):
    """An OpenTelemetry collector, as ``host:port``."""

    endpoint_address: Text = ""
    protocol: Annotated[str, choice("grpc", "http", empty=True)] = ""
    is_secure: Flag = True
    headers: Annotated[tuple[NamedValue, ...], BeforeValidator(_headers)] = ()
    timeout: Annotated[float, seconds(unit=0.001)] = 10.0


class MetricHTTP(Model):
    """How HTTP metrics are labelled."""

    increased_cardinality: Flag = True
    path_matching: tuple[Text, ...] = ()
    exclude_verbs: Flag = False


class MetricLabel(Model):
    """New values for a label, each for the old ones that a regular expression matches."""

    name: Name
    regex: dict[str, Text] = Field(default_factory=dict)


class MetricRule(Model):
    """The labels of one metric."""

    name: Name
    labels: tuple[MetricLabel, ...] = ()


class MetricWorkflow(Model):
    """The buckets of workflow metrics."""

    latency_distribution_buckets: tuple[Whole, ...] = ()
    latency_distribution_units: Seconds = 0.001


class TokenValidator(Model):
    """What checks the tokens of those who ask for a certificate."""

    name: Name
    options: Free = None


class MTLS(Model):
    """Certificates of the runtimes."""

    enabled: Flag = False
    workload_cert_ttl: Seconds = Field(86400.0, alias="workloadCertTTL")
    allowed_clock_skew: Seconds = 900.0
    sentry_address: Text = ""
    control_plane_trust_domain: Text = "cluster.local"
    token_validators: tuple[TokenValidator, ...] = ()


class AccessOperation(Model):
    """A path, the verbs it is about, and whether they are allowed."""

    name: Name
    http_verb: tuple[Name, ...] = ()
    action: Action


class AccessPolicy(Model):
    """What one caller may do."""

    app_id: Name
    default_action: DefaultAction = ""
    trust_domain: Name
    namespace: Name
    operations: tuple[AccessOperation, ...] = ()


class AccessControl(Model):
    """Who may call this app."""

    default_action: DefaultAction = "allow"
    trust_domain: Text = "public"
    policies: tuple[AccessPolicy, ...] = ()


class SelectorField(Model):
    """A field and the value it must have."""

    field: Text
    value: Text


class Selector(Model):
    """The requests that a handler is for."""

    fields_: tuple[SelectorField, ...] = Field((), alias="fields")


class Handler(Model):
    """A middleware component in its place."""

    name: Name
    type: Name
    version: Text = ""
    selector: Selector | None = None


class Pipeline(Model):
    """Middleware, the first one outermost."""

    handlers: tuple[Handler, ...] = ()


class SecretScope(Model):
    """Which secrets of a store the app may read."""

    store_name: Name
    default_access: DefaultAction = "allow"
    allowed_secrets: tuple[Text, ...] = ()
    denied_secrets: tuple[Text, ...] = ()


class Secrets(Model):
    """Which secrets the app may read, store by store."""

    scopes: tuple[SecretScope, ...] = ()


class NameResolution(Model):
    """The component that finds apps."""

    component: Text = ""
    version: Text = "v1"
    configuration: Free = None


class Components(Model):
    """Types of components (``type`` or ``type/version``) that are never opened."""

    deny: tuple[Name, ...] = ()


class Feature(Model):
    """A preview feature."""

    name: Name
    enabled: Flag


class Wasm(Model):
    """The sandbox of WebAssembly components."""

    strict_sandbox: Flag = False


class ConcurrencyLimit(Model):
    """How many workflows or activities of a name run at a time."""

    name: Name
    max_concurrent: Whole | None = None
    dispatch_mode: Annotated[str, choice("hashed", "pull", empty=True)] = ""


class StateRetention(Model):
    """How long the state of a workflow is kept after its end."""

    any_terminal: Seconds | None = None
    completed: Seconds | None = None
    failed: Seconds | None = None
    terminated: Seconds | None = None


class Workflow(Model):
    """How many workflows and activities run at a time; 0 is no limit."""

    max_concurrent_workflow_invocations: Whole = 0
    max_concurrent_activity_invocations: Whole = 0
    global_max_concurrent_workflow_invocations: Whole = 0
    global_max_concurrent_activity_invocations: Whole = 0
    workflow_concurrency_limits: tuple[ConcurrencyLimit, ...] = ()
    activity_concurrency_limits: tuple[ConcurrencyLimit, ...] = ()
    activity_dispatch_mode: Annotated[str, choice("hashed", "pull", empty=True)] = ""
    state_retention_policy: StateRetention | None = None
