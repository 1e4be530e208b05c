"""The YAML resources of one runtime, as the parts of the runtime want them."""

from __future__ import annotations

import logging
import os
import ssl
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from pillion.components.order import waves
from pillion.config.component import ComponentSpec
from pillion.config.configuration import Configuration
from pillion.config.http_endpoint import ClientTLS, HTTPEndpoint
from pillion.config.load import load_resources
from pillion.errors import Invalid
from pillion.net.outside import Outlet
from pillion.options import Options
from pillion.policy.secret_scopes import SecretAccess, everything, secret_access

log = logging.getLogger("pillion.config")


@dataclass(frozen=True, slots=True)
class Resources:
    """What the files say.

    Attributes:
        outlets: HTTPEndpoints by name.
        allowed: whether an API ``(group, version)`` is served over HTTP.
        sampling: the share of traces without a parent to sample; 0 is off.
        metrics: whether metrics are served.
        api_logging: whether API calls are logged.
        secrets: whether the app may read a secret, by (store, secret).
        components: those that are declared for this app, in the order of the files.
    """

    outlets: Mapping[str, Outlet] = field(default_factory=dict)
    allowed: Callable[[str, str], bool] = lambda _group, _version: True
    sampling: float = 0.0001
    metrics: bool = True
    api_logging: bool = False
    components: tuple[ComponentSpec, ...] = ()
    secrets: SecretAccess = everything


def load(options: Options) -> Resources:
    """Read the folders and files that ``options`` name.

    Raises:
        Invalid: something in them is wrong; the message has one line for each mistake.
    """
    loaded = load_resources(
        options.resources_paths,
        app_id=options.app_id,
        namespace=options.namespace,
        environ=os.environ,
        config_files=options.config_files,
    )
    for notice in loaded.notices:
        log.log(logging.WARNING if notice.warning else logging.INFO, "%s", notice)
    configuration: Configuration = loaded.configuration
    rules = configuration.api_rules()
    components = tuple(_allowed(loaded.of(ComponentSpec), configuration.denied_components))
    waves(components)  # finds secret stores that are not there
    return Resources(
        {endpoint.name: _outlet(endpoint) for endpoint in loaded.of(HTTPEndpoint)},
        lambda group, version: rules(group, version, "http"),
        configuration.sampling_rate(),
        configuration.metrics_enabled,
        configuration.api_logging.enabled,
        components,
        secret_access(configuration.secret_scopes),
    )


def _allowed(specs: Iterable[ComponentSpec], denied: Collection[str]) -> Iterator[ComponentSpec]:
    for spec in specs:
        if spec.type_name in denied or f"{spec.type_name}/{spec.version}" in denied:
            text = "%s: %s is left out: the Configuration denies the type %s"
            log.warning(text, spec.mark, spec.name, spec.type_name)
        else:
            yield spec


def _outlet(endpoint: HTTPEndpoint) -> Outlet:
    tls = endpoint.tls
    return Outlet(
        endpoint.base_url, endpoint.headers, _context(endpoint.name, tls) if tls else None
    )


def _context(name: str, tls: ClientTLS) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=tls.root_ca)
        if tls.certificate and tls.private_key:
            # OpenSSL reads keys from a path only.
            with tempfile.NamedTemporaryFile() as file:
                file.write(tls.certificate.encode() + b"\n" + tls.private_key.encode())
                file.flush()
                context.load_cert_chain(file.name)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise Invalid(f"HTTPEndpoint {name}: its clientTLS cannot be used: {error}") from None
    return context
