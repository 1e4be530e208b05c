"""The open components of one runtime, and how they are changed while calls run."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TypeVar

from pillion import registry
from pillion.call import Reply
from pillion.components.epochs import Epoch, Epochs
from pillion.components.holder import Holder, lines_of, log
from pillion.components.order import defaults, waves
from pillion.components.secrets import Secrets, check, resolved
from pillion.config.component import ComponentSpec, SecretReference, filled
from pillion.config.metadata import split
from pillion.errors import Failure, Invalid, Unavailable
from pillion.inline import in_task
from pillion.kinds.component import Component, Context
from pillion.kinds.index import KINDS, Kind, kind_of
from pillion.kinds.opened import Opened
from pillion.operation import Endpoint, Operation, Request

K = TypeVar("K", bound=Component)
_Key = tuple[type[Component], str]

DRAIN = 30.0
"""Seconds that calls are given to end before a component that is not used any more is closed."""
_SECRETS = KINDS["secretstores"]


class OpenComponents:
    """The components, found by kind and name; see ``kinds/opened.py`` for what blocks see.

    Args:
        home: ``$PILLION_HOME``.
        app_id: the runtime's app.
        namespace: its namespace.
        pod: the name of its pod, for ``{podName}``; empty for none.

    Attributes:
        failures: how often a component could not be opened.
    """

    def __init__(self, *, home: Path, app_id: str, namespace: str, pod: str = "") -> None:
        self.failures = 0
        self._home = home
        self._app_id = app_id
        self._namespace = namespace
        self._pod = pod
        self._holders: dict[_Key, Holder] = {}
        self._embedded: dict[str, ComponentSpec] = {}
        self._waking: dict[str, Holder] = {}
        self._classes: dict[str, type[Component]] = {}
        self._epochs = Epochs()
        self._retiring: dict[asyncio.Task[None], list[Holder]] = {}

    @asynccontextmanager
    async def open(self, specs: Sequence[ComponentSpec]) -> AsyncIterator[None]:
        """Open ``specs``; leaving the context closes whatever is open then.

        Raises:
            Invalid, Unavailable: one that must open does not; the message has a line for each.
        """
        try:
            await self.apply(specs)
            yield
        finally:
            await self._close()

    # Looking up.

    def find(self, kind: type[K], name: str) -> Opened[K] | None:
        """Return the component of ``kind`` called ``name``; see ``Components``."""
        holder = self._holders.get((kind, name))
        if holder is None:
            return None
        if holder.failure is not None:
            raise holder.failure
        return holder.opened

    def names(self, kind: type[Component]) -> list[str]:
        """Return the names of the components of ``kind``, open or about to be."""
        found = [name for promise, name in self._holders if promise is kind]
        lazy = [spec.name for key, spec in self._embedded.items() if KINDS[key].promise is kind]
        return sorted({*found, *lazy})

    @property
    def loaded(self) -> int:
        """Components that are open."""
        return sum(holder.failure is None for holder in self._holders.values())

    async def describe(self) -> list[dict[str, object]]:
        """Return the components as the metadata API shows them."""
        specs = [holder.spec for holder in self._holders.values() if holder.failure is None]
        return [
            {
                "name": spec.name,
                "type": spec.type_name,
                "version": spec.version,
                "capabilities": _kind(spec).capabilities_of(await self._class(spec)),
            }
            for spec in (*specs, *self._embedded.values())
        ]

    # Serving.

    def rows(self, operations: Iterable[Operation], kind: type[Component]) -> list[Operation]:
        """Return a block's rows, served with the components of ``kind``.

        Each call has a real task, which client libraries ask for, and keeps what it finds open
        until it has ended.
        """
        name = next(one.name for one in KINDS.values() if one.promise is kind)
        return [replace(row, endpoint=self._served(row.endpoint, name)) for row in operations]

    def _served(self, endpoint: Endpoint, kind: str) -> Endpoint:
        async def call(request: Request) -> Reply:
            epoch = self._epochs.enter()
            try:
                if kind in self._embedded:
                    await self._wake(kind)
                return await endpoint(request)
            finally:
                epoch.leave()

        async def serve(request: Request) -> Reply:
            return await in_task(call(request))

        return serve

    async def _wake(self, kind: str) -> None:
        """Open the embedded component of ``kind`` at its first use."""
        spec = self._embedded[kind]
        component = await self._class(spec)
        if self._embedded.get(kind) is not spec:
            return
        holder = self._waking.get(kind)
        if holder is None:
            holder = self._waking[kind] = self.holder(spec, component, {})
            holder.start()
        try:
            await holder.settled()
        except Failure:
            if self._waking.get(kind) is holder:
                del self._waking[kind]
                self.failures += 1
            raise
        if self._waking.get(kind) is holder:
            del self._waking[kind], self._embedded[kind]
            self._holders[_key(spec)] = holder

    # Changing.

    async def apply(self, specs: Sequence[ComponentSpec]) -> None:
        """Make ``specs`` the components: all of them, or none.

        What is new or changed is opened beside what it replaces and then takes its place; what is
        not used any more is closed when the calls that may use it have ended. A component with
        ``ignoreErrors`` that does not open leaves what was there before, and the others change.

        Raises:
            Invalid, Unavailable: nothing has changed; the message has a line for each reason.
        """
        change = _Change(self, self._holders)
        try:
            for group in waves(specs):
                await change.prepare(group)
            change.check()
        except BaseException:
            await asyncio.gather(*(holder.close() for holder in change.started))
            raise
        finally:
            self.failures += change.failures
        self._adopt(change.holders, specs)

    def _adopt(self, holders: dict[_Key, Holder], specs: Sequence[ComponentSpec]) -> None:
        embedded = defaults(specs)
        for name, spec in list(embedded.items()):
            old = holders.get(_key(spec)) or self._holders.get(_key(spec))
            if old is not None and old.failure is None and old.spec == spec:
                holders[_key(spec)] = old
                del embedded[name]
        gone = [self._waking.pop(name) for name in list(self._waking) if name not in embedded]
        kept = set(map(id, holders.values()))
        gone += [holder for holder in self._holders.values() if id(holder) not in kept]
        self._holders, self._embedded = holders, embedded
        if gone:
            epochs = self._epochs.end()
            task = asyncio.get_running_loop().create_task(_retire(epochs, gone))
            self._retiring[task] = gone
            task.add_done_callback(self._retiring.pop)

    async def _close(self) -> None:
        retiring = dict(self._retiring)
        for task in retiring:
            task.cancel()
        holders = [*self._holders.values(), *self._waking.values(), *chain(*retiring.values())]
        for last in (False, True):
            group = [holder for holder in holders if (holder.kind is _SECRETS) is last]
            await asyncio.gather(*(holder.close() for holder in group))
        await asyncio.gather(*retiring, return_exceptions=True)

    async def _class(self, spec: ComponentSpec) -> type[Component]:
        """Return the class of ``spec``; its module is imported in a thread, for that takes time."""
        found = self._classes.get(spec.type_name)
        if found is None:
            found = await asyncio.to_thread(registry.find, spec.type_name)
            self._classes[spec.type_name] = found
        return found

    async def prepared(self, spec: ComponentSpec, texts: Mapping[str, str]) -> Holder:
        """Return what opens ``spec`` with the metadata ``texts``; see :meth:`holder`."""
        return self.holder(spec, await self._class(spec), texts)

    def holder(
        self, spec: ComponentSpec, component: type[Component], texts: Mapping[str, str]
    ) -> Holder:
        """Return what opens ``spec`` with the metadata ``texts``.

        Raises:
            Invalid: they are wrong.
        """
        kind = _kind(spec)
        check(spec, texts, kind, component)
        templates = {
            "uuid": str(uuid.uuid4()),
            "podName": self._pod,
            "namespace": f"{self._namespace}.{self._app_id}",
            "appID": self._app_id,
        }
        # A secret is what it is, whatever it looks like.
        secret = {item.name for item in spec.metadata if isinstance(item.value, SecretReference)}
        final = {
            name: text if name in secret else filled(text, templates)
            for name, text in texts.items()
        }
        own, shared = split(final, kind, component)
        context = Context(
            name=spec.name,
            home=self._home,
            app_id=self._app_id,
            namespace=self._namespace,
            settings=own,
        )
        return Holder(spec, kind, component, texts, shared, context)


class _Change:
    """The components as they will be, opened group by group.

    Attributes:
        holders: those that go on as they are, and those that are new.
        started: the new ones.
        failures: how many did not open.
    """

    def __init__(self, components: OpenComponents, present: Mapping[_Key, Holder]) -> None:
        self.holders: dict[_Key, Holder] = {}
        self.started: list[Holder] = []
        self.failures = 0
        self._components = components
        self._present = present
        self._secrets: dict[str, Secrets] = {}
        self._lines: list[str] = []
        self._unavailable = False

    async def prepare(self, group: Sequence[ComponentSpec]) -> None:
        """Open those of ``group`` that are new or changed."""
        outcomes = await asyncio.gather(
            *(self._prepared(spec) for spec in group), return_exceptions=True
        )
        for spec, outcome in zip(group, outcomes, strict=True):
            key = _key(spec)
            if isinstance(outcome, Holder):
                self.holders[key] = outcome
            elif isinstance(outcome, Failure):
                self._failed(spec, outcome)
            else:
                raise outcome

    def check(self) -> None:
        """Return when all that must be open are.

        Raises:
            Invalid, Unavailable: they are not.
        """
        if self._lines:
            kind = Unavailable if self._unavailable else Invalid
            raise kind("\n".join(self._lines), reason="configuration")

    def _failed(self, spec: ComponentSpec, failure: Failure) -> None:
        self.failures += 1
        lines = lines_of(spec, failure)
        if not spec.ignore_errors:
            self._lines += lines
            self._unavailable = self._unavailable or not isinstance(failure, Invalid)
            return
        old = self._present.get(_key(spec))
        if old is not None and old.failure is None:
            self.holders[_key(spec)] = old
        stays = "; what was there before stays" if _key(spec) in self.holders else ""
        log.warning("component %s is left out%s: %s", spec.name, stays, "; ".join(lines))

    async def _prepared(self, spec: ComponentSpec) -> Holder:
        try:
            async with asyncio.timeout(spec.init_timeout):
                texts = await resolved(spec, self._secrets_for(spec))
        except TimeoutError:
            text = f"its secrets were not there after {spec.init_timeout:g} s, its initTimeout"
            raise Unavailable(f"component {spec.name}: {text}") from None
        old = self._present.get(_key(spec))
        if (
            old is not None
            and old.failure is None
            and old.spec == spec
            and dict(old.texts) == texts
        ):
            return old
        holder = await self._components.prepared(spec, texts)
        self.started.append(holder)
        holder.start()
        await holder.settled()
        return holder

    def _secrets_for(self, spec: ComponentSpec) -> Secrets | None:
        if not spec.references:
            return None
        name = spec.secret_store
        if name not in self._secrets:
            holder = self.holders.get((_SECRETS.promise, name))
            if holder is None or holder.opened is None:
                raise Unavailable(f"component {spec.name}: the secret store {name} is not open")
            self._secrets[name] = Secrets(name, holder.opened.component)
        return self._secrets[name]


async def _retire(epochs: Sequence[Epoch], holders: Sequence[Holder]) -> None:
    """Close ``holders`` once the calls of ``epochs`` have ended."""
    try:
        async with asyncio.timeout(DRAIN):
            for epoch in epochs:
                await epoch.idle()
    except TimeoutError:
        names = ", ".join(holder.spec.name for holder in holders)
        log.warning("calls still run after %g s; these are closed all the same: %s", DRAIN, names)
    await asyncio.gather(*(holder.close() for holder in holders))


def _key(spec: ComponentSpec) -> _Key:
    return _kind(spec).promise, spec.name


def _kind(spec: ComponentSpec) -> Kind:
    kind = kind_of(spec.type_name)
    if kind is None:
        raise Invalid(f"component {spec.name}: unknown component type {spec.type_name}")
    return kind
