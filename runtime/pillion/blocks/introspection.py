"""What a runtime says of itself: health, metadata, shutdown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import parse_qs

from pillion import __version__
from pillion.body import read_all
from pillion.call import Reply
from pillion.errors import Failure, Invalid, TooLarge
from pillion.operation import Operation, Request
from pillion.options import Options
from pillion.wire.errors_json import json_reply

MAX_EXTENDED = 64
"""Keys that metadata holds besides its own."""
MAX_VALUE = 16 * 1024


class Introspection:
    """The block.

    Args:
        options: this runtime's.
        not_ready: names what the runtime still waits for; empty when it serves.
        outbound_not_ready: the same for calls that leave the app.
        shut_down: asked to stop; True is at once.
        endpoints: names of the HTTPEndpoints.
        components: gives the components, as the metadata shows them.
        refused: gives what was last refused of changed files, None when everything is in force.

    Attributes:
        extended: the metadata that was set from outside.
    """

    __slots__ = (
        "_components",
        "_endpoints",
        "_not_ready",
        "_options",
        "_outbound_not_ready",
        "_refused",
        "_shut_down",
        "extended",
    )

    def __init__(
        self,
        options: Options,
        *,
        not_ready: Callable[[], Sequence[str]],
        outbound_not_ready: Callable[[], Sequence[str]],
        shut_down: Callable[[bool], None],
        endpoints: Sequence[str],
        components: Callable[[], Awaitable[Sequence[object]]],
        refused: Callable[[], object],
    ) -> None:
        self._options = options
        self._not_ready = not_ready
        self._outbound_not_ready = outbound_not_ready
        self._shut_down = shut_down
        self._endpoints = endpoints
        self._components = components
        self._refused = refused
        self.extended: dict[str, str] = {"daprRuntimeVersion": __version__}

    def operations(self) -> list[Operation]:
        """Return the block's rows."""
        return [*self.public_operations(), self._shutdown_row()]

    def public_operations(self) -> list[Operation]:
        """Return the rows that the public port serves too."""
        return [
            Operation(
                "healthz.get",
                ("GET",),
                "healthz",
                self.health,
                group="healthz",
                public=True,
                summary="204 when the runtime and its app are ready",
            ),
            Operation(
                "healthz.outbound",
                ("GET",),
                "healthz/outbound",
                self.outbound_health,
                group="healthz",
                public=True,
                summary="204 when the app may call out, whether or not it listens itself",
            ),
            Operation(
                "metadata.get",
                ("GET",),
                "metadata",
                self.get_metadata,
                group="metadata",
                summary="what this runtime is and has loaded",
            ),
            Operation(
                "metadata.set",
                ("PUT",),
                "metadata/{key}",
                self.set_metadata,
                group="metadata",
                summary="add a value of one's own",
            ),
        ]

    def _shutdown_row(self) -> Operation:
        return Operation(
            "shutdown",
            ("POST",),
            "shutdown",
            self.shutdown,
            group="shutdown",
            summary="drain and stop",
        )

    async def health(self, request: Request) -> Reply:
        """Answer 204, or 500 with what is missing."""
        wanted = parse_qs(request.query.decode("latin-1")).get("appid")
        if wanted and wanted[0] != self._options.app_id:
            raise Failure("dapr app-id does not match", code="ERR_HEALTH_APPID_NOT_MATCH")
        missing = self._not_ready()
        if missing:
            raise Failure(
                f"dapr is not ready: [{' '.join(missing)}]",
                code="ERR_HEALTH_NOT_READY",
                reason="not-ready",
            )
        return Reply(204)

    async def outbound_health(self, _request: Request) -> Reply:
        """Answer 204, or 500 with what is missing."""
        missing = self._outbound_not_ready()
        if missing:
            raise Failure(
                f"dapr outbound is not ready: [{' '.join(missing)}]",
                code="ERR_OUTBOUND_HEALTH_NOT_READY",
                reason="not-ready",
            )
        return Reply(204)

    async def get_metadata(self, _request: Request) -> Reply:
        """Answer with the runtime's metadata; empty parts are left out."""
        options = self._options
        metadata: dict[str, object] = {
            "id": options.app_id,
            "runtimeVersion": __version__,
            "extended": self.extended,
            "actorRuntime": {"runtimeStatus": "DISABLED", "hostReady": False},
        }
        components = await self._components()
        if components:
            metadata["components"] = components
        if self._endpoints:
            metadata["httpEndpoints"] = [{"name": name} for name in self._endpoints]
        if options.app_port:
            metadata["appConnectionProperties"] = _app_connection(options)
        refused = self._refused()
        if refused:
            metadata["refusedChange"] = refused
        return json_reply(metadata)

    async def set_metadata(self, request: Request) -> Reply:
        """Store the raw body under the key."""
        key = request.params["key"]
        if key not in self.extended and len(self.extended) >= MAX_EXTENDED:
            raise Invalid(f"metadata holds {MAX_EXTENDED} keys already")
        try:
            value = await read_all(request.body, MAX_VALUE)
        except TooLarge as failure:
            raise Invalid(f"the value of {key!r} is too long: {failure.message}") from None
        self.extended[key] = value.decode("utf-8", "replace")
        return Reply(204)

    async def shutdown(self, request: Request) -> Reply:
        """Answer 204, then stop."""
        forced = any(
            name.lower() == b"dapr-force-shutdown" and value.lower() == b"true"
            for name, value in request.headers
        )
        self._shut_down(forced)
        return Reply(204)


def _app_connection(options: Options) -> dict[str, object]:
    properties: dict[str, object] = {
        "port": options.app_port,
        "protocol": options.app_protocol,
        "channelAddress": options.app_host,
    }
    if options.app_max_concurrency > 0:
        properties["maxConcurrency"] = options.app_max_concurrency
    health = options.app_health
    if health is not None:
        properties["health"] = {
            "healthCheckPath": health.path,
            "healthProbeInterval": f"{health.interval:g}s",
            "healthProbeTimeout": f"{health.timeout * 1000:g}ms",
            "healthThreshold": health.threshold,
        }
    return properties
