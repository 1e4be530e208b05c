"""Which layers a call passes, by target; the order is written here and nowhere else.

A plan is compiled at the first call of a target and looked up from then on.
"""

from __future__ import annotations

from collections.abc import Callable

from pillion.call import Call, Handler, Identity, Layer, Reply, Target
from pillion.layers.admission import Admission
from pillion.layers.balance import Send, balance
from pillion.layers.deadline import deadline
from pillion.layers.directory import Directory
from pillion.layers.retry import RetryCounters, retry
from pillion.layers.telemetry import telemetry
from pillion.policy.retry import RetryBudget, RetryPolicy
from pillion.series import Series
from pillion.wheel import Wheel

MAX_ENDPOINT_PLANS = 1024
"""Plans of HTTPEndpoints and URLs; URLs come from requests, so there must be an end."""


def stacked(handler: Handler, *layers: Layer) -> Handler:
    """Wrap ``handler``; the first layer named is the outermost."""
    for layer in reversed(layers):
        handler = layer(handler)
    return handler


class Inbound:
    """The plan of the app beside this runtime, for calls from elsewhere and from itself."""

    __slots__ = ("admission", "handler", "received")

    def __init__(self, app: Handler, max_concurrency: int, wheel: Wheel) -> None:
        self.received: dict[str, Series] = {}
        self.admission = Admission(max_concurrency, wheel)
        self.handler = stacked(
            app,
            self._counted,  # what the caller will see, by caller
            deadline(),  # nothing is queued for a call that is over
            self.admission,  # the app's own limit, last before the app
        )

    def _counted(self, inner: Handler) -> Handler:
        by_caller: dict[str, Handler] = {}

        async def handler(call: Call) -> Reply:
            caller = call.caller.app_id if call.caller is not None else ""
            counted = by_caller.get(caller)
            if counted is None:
                series = self.received.setdefault(caller, Series())
                counted = by_caller[caller] = telemetry(series)(inner)
            return await counted(call)

        return handler


class Outbound:
    """The plans of everything that is called from here.

    Args:
        own: this runtime's app.
        local: the inbound plan, for calls of an app to itself.
        directory: the instances of apps.
        send: gives a call to an instance's runtime.
        outside: gives a call to an HTTPEndpoint or URL.
    """

    __slots__ = (
        "_directory",
        "_local",
        "_outside",
        "_own",
        "_plans",
        "_policy",
        "_send",
        "_wheel",
        "retries",
        "sent",
    )

    def __init__(
        self,
        own: Identity,
        local: Handler,
        directory: Callable[[], Directory],
        send: Send,
        outside: Handler,
        wheel: Wheel,
    ) -> None:
        self._own = own
        self._local = local
        self._directory = directory
        self._send = send
        self._outside = outside
        self._wheel = wheel
        self._policy = RetryPolicy()
        self._plans: dict[Target, Handler] = {}
        self.sent: dict[str, Series] = {}
        self.retries = RetryCounters()

    def __call__(self, target: Target) -> Handler:
        """Return the plan of ``target``."""
        plan = self._plans.get(target)
        if plan is None:
            plan = self._plans[target] = self._compile(target)
        return plan

    def forget(self, target: Target) -> None:
        """Drop the plan of an app that nobody calls."""
        self._plans.pop(target, None)

    def _compile(self, target: Target) -> Handler:
        if target.kind == "endpoint":
            if len(self._plans) >= MAX_ENDPOINT_PLANS:
                self._plans = {
                    kept: plan for kept, plan in self._plans.items() if kept.kind == "app"
                }
            return stacked(self._outside, self._telemetry(target), deadline())
        if target.name == self._own.app_id and target.namespace == self._own.namespace:
            return self._to_itself
        app = self._directory().watch(target)
        return stacked(
            balance(app, self._send, self._wheel),
            self._telemetry(target),  # what the caller sees, retries included
            retry(self._policy, RetryBudget(), self.retries, self._wheel),  # around the choice
            # The mesh itself refuses a call whose deadline is spent.
        )

    def _telemetry(self, target: Target) -> Layer:
        name = target.name if target.kind == "app" else "(endpoint)"
        return telemetry(self.sent.setdefault(name, Series()))

    async def _to_itself(self, call: Call) -> Reply:
        call.caller = self._own
        return await self._local(call)
