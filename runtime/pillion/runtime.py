"""One runtime: the only module that knows all the parts, and puts them together.

Parts are opened from the inside out, each as an async context manager, and closed in the opposite
order, so that nothing is used before it works or after it is closed.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import random
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from pillion.blocks.introspection import Introspection
from pillion.blocks.invocation import Host, Invocation
from pillion.blocks.lock import Lock
from pillion.blocks.metrics import MetricsPage
from pillion.blocks.secrets import Secrets
from pillion.blocks.state import State
from pillion.call import Call, Identity, Reply
from pillion.components.live import OpenComponents
from pillion.errors import Failure, Unavailable
from pillion.gauges import gauges
from pillion.home import Home, RunFile, forget, process_start, record
from pillion.identity.authority import Authority
from pillion.identity.rotation import renewing
from pillion.identity.tls import MeshTls
from pillion.kinds.component import Context
from pillion.kinds.lock import LockStore
from pillion.kinds.registry import Instance, Registration, Registry
from pillion.kinds.secretstores import SecretStore
from pillion.kinds.state import StateStore
from pillion.layers.directory import Directory
from pillion.logs import configure
from pillion.mesh.listener import MeshListener
from pillion.mesh.pool import Peers
from pillion.mesh.settings import Settings
from pillion.net.api_connection import Limits
from pillion.net.api_server import ApiServer, addresses
from pillion.net.app_channel import AppChannel
from pillion.net.cors import Cors
from pillion.net.outside import Outside
from pillion.net.router import Router
from pillion.node import node_id
from pillion.operation import Operation
from pillion.options import Options
from pillion.plans import Inbound, Outbound
from pillion.policy.balance import PICKERS, EndpointSet
from pillion.registry import find
from pillion.reload import Reload
from pillion.resources import Resources, load
from pillion.wheel import Wheel
from pillion.wire.mesh_session import Limits as MeshLimits

log = logging.getLogger("pillion.runtime")

CERTIFICATE_LIFETIME = 3600.0
"""Seconds that a workload certificate is good for."""
MESH_HEAD = 64 * 1024
"""Bytes of a frame beside its body that every runtime takes."""
SWEEP = 30.0
"""Seconds between two looks for watches that nobody needs."""
FORCED_EXIT = 0.1


class Runtime:
    """The parts of one runtime while it runs."""

    def __init__(self, options: Options, home: Home, resources: Resources) -> None:
        self.options = options
        self.home = home
        self.resources = resources
        self.identity = Identity(options.trust_domain, options.namespace, options.app_id)
        self.instance_id = os.urandom(16).hex()
        self.stopping = asyncio.Event()
        self.listening = False
        self.draining = False
        self.app_ready = options.app_port == 0
        self.wheel = Wheel(asyncio.get_running_loop())
        self.outside = Outside(resources.outlets, self.wheel, options.max_body_size)
        self.app = AppChannel(options, self.wheel, self._app_health)
        self.inbound = Inbound(
            self.app.call if options.app_port else _no_app, options.app_max_concurrency, self.wheel
        )
        self.outbound = Outbound(
            self.identity,
            self.inbound.handler,
            lambda: self.directory,
            self._send,
            self.outside.call,
            self.wheel,
        )
        self.components = OpenComponents(
            home=home.path,
            app_id=options.app_id,
            namespace=options.namespace,
            pod=os.environ.get("POD_NAME", ""),
        )
        self.reload = Reload(
            options.resources_paths, lambda: load(options), self.components, resources
        )
        self.state = State(
            self.components,
            app_id=options.app_id,
            namespace=options.namespace,
            max_body=options.max_body_size,
        )
        self.introspection = Introspection(
            options,
            not_ready=self._not_ready,
            outbound_not_ready=lambda: [] if self.listening else ["api"],
            shut_down=self._shut_down,
            endpoints=sorted(resources.outlets),
            components=self.components.describe,
            refused=self.reload.describe,
        )
        self.directory: Directory
        self.peers: Peers
        self.listener: MeshListener
        self.api: ApiServer
        self._registration: Registration | None = None
        self._membership = AsyncExitStack()
        self._health_changed = asyncio.Event()

    # Health.

    def _not_ready(self) -> Sequence[str]:
        missing = [] if self.listening and not self.draining else ["api"]
        return missing if self.app_ready else [*missing, "app"]

    def _app_health(self, _healthy: bool) -> None:  # noqa: FBT001 - told by the app channel
        self._health_changed.set()

    def _shut_down(self, forced: bool) -> None:  # noqa: FBT001 - told by the block
        if forced:
            log.warning("asked to stop at once")
            asyncio.get_running_loop().call_later(FORCED_EXIT, os._exit, 1)
        else:
            asyncio.get_running_loop().call_later(FORCED_EXIT, self.stopping.set)

    def _send(self, instance: Instance, call: Call) -> Awaitable[Reply]:
        return self.peers.call(instance, call)

    # Opening.

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Serve while the context is open; leaving it drains."""
        async with AsyncExitStack() as stack:
            stack.callback(self.wheel.close)
            stack.callback(self.outside.close)
            stack.callback(self.app.close)
            stack.push_async_callback(self.state.aclose)
            registry = await stack.enter_async_context(self._registry())
            tls = await stack.enter_async_context(self._identity())
            await stack.enter_async_context(self.components.open(self.resources.components))
            await self._open_mesh(stack, registry, tls)
            await self._open_api(stack)
            instance = await self._listen_to_peers()
            await stack.enter_async_context(self._membership)
            self._registration = await self._membership.enter_async_context(
                registry.registered(instance, self.options.lease)
            )
            self._write_run_file(stack, instance)
            group = await stack.enter_async_context(_tasks())
            group(self._follow_app())
            group(self._sweep())
            group(self.reload.follow())
            self.listening = True
            yield

    @asynccontextmanager
    async def _registry(self) -> AsyncIterator[Registry]:
        context = Context(
            name="registry",
            home=self.home.path,
            app_id=self.options.app_id,
            namespace=self.options.namespace,
        )
        kind = find("registry.sqlite")
        async with kind.open(context) as component:
            if not isinstance(component, Registry):
                raise TypeError("registry.sqlite is no registry")
            yield component

    @asynccontextmanager
    async def _identity(self) -> AsyncIterator[MeshTls]:
        authority = Authority.open(self.home, self.options.trust_domain)
        credentials = authority.issue(self.identity, lifetime=CERTIFICATE_LIFETIME)
        tls = MeshTls(self.identity, credentials, authority.roots)
        async with renewing(authority, tls, CERTIFICATE_LIFETIME) as self.renewal:
            yield tls

    async def _open_mesh(self, stack: AsyncExitStack, registry: Registry, tls: MeshTls) -> None:
        options = self.options
        self.directory = Directory(
            registry,
            lambda: EndpointSet(PICKERS[options.load_balancer](random)),
            self.outbound.forget,
        )
        await stack.enter_async_context(self.directory)
        # What the local API lets in must fit a frame, with what the runtime adds to it.
        head = max(MESH_HEAD, options.read_buffer_size + MESH_HEAD // 2)
        settings = Settings(limits=MeshLimits(max_head=head))
        self.peers = Peers(
            ssl_context=tls.client,
            identify=tls.peer,
            trust_domain=options.trust_domain,
            wheel=self.wheel,
            on_broken=self.directory.broken,
            settings=settings,
        )
        stack.push_async_callback(self.peers.aclose)
        self.listener = MeshListener(
            self.inbound.handler,
            ssl_context=tls.server,
            identify=tls.peer,
            accepts=(options.namespace, options.app_id),
            wheel=self.wheel,
            settings=settings,
        )
        stack.push_async_callback(self.listener.aclose)

    async def _open_api(self, stack: AsyncExitStack) -> None:
        options = self.options
        invocation = Invocation(
            Host(options.app_id, options.namespace, options.host_ip, socket.gethostname()),
            self.outbound,
            self.resources.outlets,
            enabled=self.resources.allowed("invoke", "v1.0"),
        )
        router = Router(self._rows(), invocation.serve, self.resources.allowed)
        limits = Limits(head=options.read_buffer_size, body=options.max_body_size)
        self.api = ApiServer(
            router,
            self.wheel,
            limits,
            token=options.api_token,
            cors=Cors(options.allowed_origins) if options.allowed_origins else None,
            sampling=self.resources.sampling,
            log_calls=options.api_logging or self.resources.api_logging,
        )
        stack.push_async_callback(self.api.drain, 0.0)
        if options.unix_socket_dir is None:
            self.http_port = await _listen(
                self.api, options.listen_addresses, options.http_port, "HTTP"
            )
        else:
            self.http_port = 0
            await self.api.listen_unix(Path(self._unix_socket()))
        await self._open_side_ports(stack, limits)

    def _rows(self) -> list[Operation]:
        """Return the operations of every block but invocation, which answers what is left."""
        options, secrets = self.options, self.resources.secrets
        locks = Lock(
            self.components,
            app_id=options.app_id,
            namespace=options.namespace,
            max_body=options.max_body_size,
        )
        return [
            *self.introspection.operations(),
            *self.components.rows(self.state.operations(), StateStore),
            *self.components.rows(Secrets(self.components, secrets).operations(), SecretStore),
            *self.components.rows(locks.operations(), LockStore),
        ]

    async def _open_side_ports(self, stack: AsyncExitStack, limits: Limits) -> None:
        options = self.options
        if options.public_port is not None:
            router = Router(self.introspection.public_operations(), _nothing, lambda _g, _v: True)
            public = ApiServer(router, self.wheel, limits, sampling=0.0)
            stack.push_async_callback(public.drain, 0.0)
            where = (options.public_listen_address,)
            await _listen(public, where, options.public_port, "public")
        self.metrics_port = 0
        if options.metrics_port is not None and self.resources.metrics:
            page = MetricsPage(
                options.app_id, self.outbound.sent, self.inbound.received, gauges(self)
            )
            router = Router((), page.serve, lambda _g, _v: True)
            metrics = ApiServer(router, self.wheel, limits, sampling=0.0)
            stack.push_async_callback(metrics.drain, 0.0)
            where = (options.metrics_listen_address,)
            self.metrics_port = await _listen(metrics, where, options.metrics_port, "metrics")

    async def _listen_to_peers(self) -> Instance:
        options = self.options
        host = options.mesh_listen_address or options.host_ip
        port = await self.listener.start(host, options.mesh_port)
        return Instance(
            id=self.instance_id,
            app_id=options.app_id,
            namespace=options.namespace,
            host=options.host_ip,
            port=port,
            labels=options.labels,
            protocol=options.app_protocol if options.app_port else "",
            healthy=False,
            pid=os.getpid(),
            node=node_id(),
            since=time.time(),
        )

    def _unix_socket(self) -> str:
        folder = self.options.unix_socket_dir
        return str(folder / f"dapr-{self.options.app_id}-http.socket") if folder else ""

    def _write_run_file(self, stack: AsyncExitStack, instance: Instance) -> None:
        options = self.options
        run_file = RunFile(
            app_id=options.app_id,
            namespace=options.namespace,
            instance_id=self.instance_id,
            pid=os.getpid(),
            started=process_start(os.getpid()) or "",
            http_port=self.http_port,
            grpc_port=options.grpc_port,
            app_port=options.app_port,
            mesh_port=instance.port,
            metrics_port=self.metrics_port,
            unix_socket=self._unix_socket(),
            command=options.command,
            created=time.time(),
        )
        record(self.home, run_file)
        stack.callback(forget, self.home, run_file)

    # Running.

    async def _follow_app(self) -> None:
        if not self.options.app_port:
            return
        await self.app.wait_for_port()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.app.watch_health())
            group.create_task(self._start_app())
            while True:
                await self._health_changed.wait()
                self._health_changed.clear()
                await self._publish_health()

    async def _start_app(self) -> None:
        while not self.app.healthy:
            await self._health_changed.wait()
            await asyncio.sleep(0)
        if "config" not in self.options.disable_init_endpoints:
            await self._read_app_config()
        self.app_ready = True
        log.info("ready: app %s is served", self.options.app_id)

    async def _read_app_config(self) -> None:
        headers = [
            (b"Dapr-App-Id", self.options.app_id.encode()),
            (b"Content-Type", b"application/json"),
        ]
        if self.options.app_api_token:
            headers.append((b"dapr-api-token", self.options.app_api_token.encode()))
        try:
            status, body = await self.app.get(b"/dapr/config", headers, 10.0, 1024 * 1024)
        except Failure as failure:
            log.debug("the app's /dapr/config was not read: %s", failure.message)
            return
        if status == 200 and b'"entities"' in body:
            log.warning("the app asks for actors, which this runtime does not host")

    async def _publish_health(self) -> None:
        if self._registration is None:
            return
        try:
            await self._registration.update(healthy=self.app.healthy)
        except Unavailable as failure:
            log.warning("the registry was not told of the app's health: %s", failure.message)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            self.directory.sweep()

    async def serve_on(self, seconds: float) -> None:
        """Go on for ``seconds``, or until the app is no longer well."""
        log.info("serving on for up to %g s", seconds)
        end = time.monotonic() + seconds
        while time.monotonic() < end and (  # noqa: ASYNC110 - time and health end it alike
            self.app.healthy or not self.options.app_port
        ):
            await asyncio.sleep(0.1)

    async def drain(self) -> None:
        """Finish what is in flight and take nothing new."""
        seconds = self.options.graceful_shutdown
        self.draining = True
        log.info("draining for up to %g s", seconds)
        # First of all the others are told, so that nothing new is on its way while this drains.
        self._registration = None
        await self._membership.aclose()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.state.aclose())
            group.create_task(self.listener.drain(seconds))
            group.create_task(self.api.drain(seconds))


async def run(
    options: Options, ready: Callable[[Runtime], None], stop: asyncio.Event | None = None
) -> None:
    """Run one runtime until it is told to stop.

    Args:
        options: what it is told.
        ready: called when it listens.
        stop: stops it; SIGTERM, SIGINT and the shutdown API do as well.

    Raises:
        Failure: it could not start.
    """
    home = Home.locate(options.home)
    runtime = Runtime(options, home, load(options))
    if stop is not None:
        runtime.stopping = stop
    async with runtime.open():
        ready(runtime)
        await runtime.stopping.wait()
        if options.block_shutdown > 0:
            await runtime.serve_on(options.block_shutdown)
        await runtime.drain()


def serve(options: Options) -> int:
    """Run one runtime in this process and return its exit status."""
    configure(options.log_level, as_json=options.log_as_json, app_id=options.app_id)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(options))
    return 0


async def _serve(options: Options) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def signalled(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        log.info("%s: stopping", signal.Signals(number).name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled, number)
    await run(options, _announce, stop)


def _announce(runtime: Runtime) -> None:
    # What exists now lives as long as the process: no collection need look at it again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 50, 50)
    where = f"port {runtime.http_port}" if runtime.http_port else "a Unix socket"
    log.info("app %s: the API listens on %s", runtime.options.app_id, where)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if os.environ.get("PILLION_LOOP") == "asyncio" or sys.implementation.name != "cpython":
        return None
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


@asynccontextmanager
async def _tasks() -> AsyncIterator[Callable[..., object]]:
    """Give a function that starts tasks; they are cancelled when the context is left."""
    async with asyncio.TaskGroup() as group:
        tasks: list[asyncio.Task[None]] = []
        yield lambda coroutine: tasks.append(group.create_task(coroutine))
        for task in tasks:
            task.cancel()


async def _listen(server: ApiServer, hosts: Sequence[str], port: int, what: str) -> int:
    for host in addresses(hosts):
        try:
            port = await server.listen(host, port)
        except OSError as error:
            raise _cannot_listen(what, host or "", port, error) from None
    return port


def _cannot_listen(what: str, host: str, port: int, error: OSError) -> Unavailable:
    in_use = error.errno == errno.EADDRINUSE
    why = "the port is in use" if in_use else (error.strerror or str(error))
    return Unavailable(f"cannot open the {what} listener on {host or '*'}:{port}: {why}")


async def _no_app(_call: Call) -> Reply:
    raise Unavailable(
        "the app has no channel: its runtime was started without an app port",
        reason="no-app-channel",
        reached=False,
    )


async def _nothing(_request: object) -> Reply:
    return Reply(404)
