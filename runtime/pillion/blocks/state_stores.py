"""State stores as the state API uses them: with their key prefix and their encryption."""

from __future__ import annotations

import logging
import os

from pillion.blocks.state_failures import illegal_key, not_configured, not_found
from pillion.kinds.index import StateMetadata
from pillion.kinds.opened import Components, Opened
from pillion.kinds.settings import settings_of
from pillion.kinds.state import StateStore
from pillion.policy.state_encryption import Cipher
from pillion.policy.state_keys import KeyPrefix, is_legal

log = logging.getLogger("pillion.state")


class Store:
    """One open store.

    Attributes:
        component: what keeps the values.
        name: its name.
        prefix: what goes before its keys.
        cipher: what its values are encrypted with, or None.
        has_outbox: True when its transactions are to be published.
    """

    __slots__ = ("cipher", "component", "has_outbox", "name", "opened", "prefix")

    def __init__(self, opened: Opened[StateStore], app_id: str, namespace: str) -> None:
        read = settings_of(StateMetadata, opened.runtime_metadata, opened.name)
        keys = (read.primary_encryption_key, read.secondary_encryption_key)
        self.opened = opened
        self.component = opened.component
        self.name = opened.name
        self.prefix = KeyPrefix.of(
            read.key_prefix, app_id=app_id, namespace=namespace, component=opened.name
        )
        self.cipher = Cipher(*keys, os.urandom) if any(keys) else None
        self.has_outbox = bool(read.outbox_publish_pubsub)

    def stored(self, key: str) -> str:
        """Return the key that the store sees.

        Raises:
            Invalid: no app may use ``key``.
        """
        if not is_legal(key):
            raise illegal_key(self.name, key)
        return self.prefix.text + key

    def sealed(self, value: bytes) -> bytes:
        """Return the value that the store sees."""
        return value if self.cipher is None else self.cipher.encrypt(value)

    def plain(self, value: bytes) -> bytes:
        """Return the value that the app sees.

        Raises:
            Failure: it cannot be decrypted.
        """
        return value if self.cipher is None else self.cipher.decrypt(value)


class Stores:
    """Finds open stores by name.

    Args:
        components: what is open.
        app_id, namespace: the runtime's app, which key prefixes are made of.
    """

    __slots__ = ("_app_id", "_components", "_namespace", "_stores")

    def __init__(self, components: Components, app_id: str, namespace: str) -> None:
        self._components = components
        self._app_id = app_id
        self._namespace = namespace
        self._stores: dict[str, Store] = {}

    def find(self, name: str) -> Store:
        """Return the store ``name``.

        Raises:
            Failure: there is none, or no store at all.
            Unavailable: it has broken down.
        """
        opened = self._components.find(StateStore, name)
        if opened is None:
            self._stores.pop(name, None)
            if not self._components.names(StateStore):
                raise not_configured(name)
            raise not_found(name, self._app_id)
        store = self._stores.get(name)
        if store is None or store.opened is not opened:
            store = self._stores[name] = Store(opened, self._app_id, self._namespace)
            if store.has_outbox:
                log.warning(
                    "state store %s: outboxPublishPubsub is set, and this runtime has no events "
                    "yet: transactions are stored and not published",
                    name,
                )
        return store
