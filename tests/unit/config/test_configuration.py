"""What the runtime asks of a Configuration."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion.config.configuration import Configuration, api_rule
from pillion.config.model.configuration import API_GROUPS, API_VERSIONS

RULES = st.frozensets(
    st.builds(
        api_rule,
        st.sampled_from(API_GROUPS),
        st.sampled_from(API_VERSIONS),
        st.sampled_from(["http", "grpc"]),
    ),
    max_size=4,
)


def test_everything_is_served_by_default() -> None:
    """Without rules every API is there."""
    served = Configuration().api_rules()
    assert all(served(group, version, "http") for group in API_GROUPS for version in API_VERSIONS)


def test_allowed_apis() -> None:
    """A list of allowed APIs takes away the rest of its protocol, and of no other."""
    rules = frozenset({api_rule("state", "v1.0", "http"), api_rule("state", "v1alpha1", "http")})
    served = Configuration(allowed_apis=rules).api_rules()
    assert served("state", "v1.0", "http")
    assert served("state", "v1.0-alpha1", "http")
    assert not served("state", "v1.0-beta1", "http")
    assert not served("invoke", "v1.0", "http")
    assert served("invoke", "v1.0", "grpc")


def test_denied_apis() -> None:
    """Denied goes over allowed, and takes away only what it names."""
    rule = frozenset({api_rule("shutdown", "v1", "http")})
    served = Configuration(denied_apis=rule, allowed_apis=rule).api_rules()
    assert not served("shutdown", "v1.0", "http")
    served = Configuration(denied_apis=rule).api_rules()
    assert not served("shutdown", "v1.0", "http")
    assert served("shutdown", "v1.0-alpha1", "http")
    assert served("shutdown", "v1.0", "grpc")


@given(RULES, RULES, st.sampled_from(API_GROUPS), st.sampled_from(API_VERSIONS))
def test_rules(allowed, denied, group: str, version: str) -> None:
    """Health is always served; otherwise not denied, and allowed where anything is."""
    served = Configuration(allowed_apis=allowed, denied_apis=denied).api_rules()
    rule = api_rule(group, version, "http")
    open_ = rule in allowed or not any(protocol == "http" for protocol, _, _ in allowed)
    assert served(group, version, "http") == (group == "healthz" or (rule not in denied and open_))


@pytest.mark.parametrize(
    ("version", "same"),
    [("v1.0", "v1"), ("v1.0-alpha1", "v1alpha1"), ("v1.0-beta1", "v1beta1"), ("v1", "v1")],
)
def test_versions_have_two_spellings(version: str, same: str) -> None:
    """The long and the short name of an API version are one rule."""
    assert api_rule("state", version, "http") == api_rule("state", same, "http")


@pytest.mark.parametrize(
    ("sampling", "otlp_endpoint", "rate"),
    [
        (None, False, 0.0001),
        (None, True, 1.0),
        (0.0, True, 0.0),
        (0.0, False, 0.0),
        (0.5, True, 0.5),
        (1.0, False, 1.0),
    ],
)
def test_sampling_rate(sampling: float | None, otlp_endpoint: bool, rate: float) -> None:
    """A rate that is given counts; else an OTLP endpoint means all, and nothing hardly any."""
    configuration = Configuration(sampling=sampling, otlp_endpoint=otlp_endpoint)
    assert configuration.sampling_rate() == rate
