"""Secrets: read only, under ``/v1.0/secrets/{store}``, and only those that the scopes allow."""

from __future__ import annotations

from pillion.blocks.retelling import retold
from pillion.call import Reply
from pillion.errors import Failure, Invalid, NotAllowed
from pillion.kinds.opened import Components
from pillion.kinds.secretstores import SecretStore
from pillion.operation import Operation, Request
from pillion.policy.secret_scopes import SecretAccess
from pillion.wire.errors_json import json_reply
from pillion.wire.query_string import metadata_of, parameters

CODE = "ERR_SECRET_GET"


class Secrets:
    """The block.

    Args:
        components: what is open.
        allowed: which secrets the app may read.
    """

    __slots__ = ("_allowed", "_components")

    def __init__(self, components: Components, allowed: SecretAccess) -> None:
        self._components = components
        self._allowed = allowed

    def operations(self) -> list[Operation]:
        """Return the block's rows."""
        return [
            Operation(
                "secrets.bulk",
                ("GET",),
                "secrets/{store}/bulk",
                self.bulk,
                group="secrets",
                summary="every secret that may be read",
            ),
            Operation(
                "secrets.get",
                ("GET",),
                "secrets/{store}/{key}",
                self.get,
                group="secrets",
                summary="one secret",
            ),
        ]

    async def get(self, request: Request) -> Reply:
        """Answer with the values of a secret by their names; 204 for none."""
        name, key = request.params["store"], request.params["key"]
        store = self._store(name)
        if not self._allowed(name, key):
            raise NotAllowed(f'access denied by policy to get "{key}" from "{name}"')
        try:
            values = await store.get(key, metadata_of(parameters(request.query)))
        except Failure as failure:
            text = f"failed getting secret with key {key} from secret store {name}"
            raise retold(failure, CODE, f"{text}: {failure.message}") from None
        return json_reply(dict(values)) if values else Reply(204)

    async def bulk(self, request: Request) -> Reply:
        """Answer with the values of all allowed secrets."""
        name = request.params["store"]
        store = self._store(name)
        try:
            secrets = await store.bulk(metadata_of(parameters(request.query)))
        except Failure as failure:
            text = f"failed getting secrets from secret store {name}: {failure.message}"
            raise retold(failure, CODE, text) from None
        return json_reply(
            {key: dict(values) for key, values in secrets.items() if self._allowed(name, key)}
        )

    def _store(self, name: str) -> SecretStore:
        opened = self._components.find(SecretStore, name)
        if opened is not None:
            return opened.component
        if not self._components.names(SecretStore):
            raise Failure(
                "secret store is not configured",
                code="ERR_SECRET_STORES_NOT_CONFIGURED",
                reason="no-component",
            )
        raise Invalid(
            f"failed finding secret store with key {name}",
            code="ERR_SECRET_STORE_NOT_FOUND",
            reason="no-component",
        )


__all__ = ["Secrets"]
