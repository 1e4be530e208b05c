"""The kinds of components that YAML can declare, and what the runtime itself reads of each.

A kind is named by the first segment of its types. Components of a kind may have metadata that the
runtime acts on, whatever the backend: it is described here as a component's own settings are, so
that it is checked and documented in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass

from pillion.kinds import lock, secretstores, state
from pillion.kinds.component import Component
from pillion.kinds.settings import setting, switch


def _key_prefix(text: str) -> str:
    if "||" in text:
        raise ValueError("appid, name, namespace, none or a text without ||")
    return text


def _encryption_key(text: str) -> bytes:
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        key = b""
    if len(key) not in (16, 24, 32):
        raise ValueError("an AES key of 16, 24 or 32 bytes in hexadecimal digits")
    return key


_PREFIX_TEXT = (
    "what comes before every key, so that apps do not meet: `appid`, `name` (the component's), "
    "`namespace` (and the app id), `none`, or any other text as it is"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoMetadata:
    """Nothing is read by the runtime."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateMetadata:
    """What the runtime reads of a state store."""

    key_prefix: str = setting(_PREFIX_TEXT, default="appid", read=_key_prefix)
    actor_state_store: bool = setting(
        "the store that actors keep their state in", default="false", read=switch
    )
    primary_encryption_key: bytes | None = setting(
        "AES key in hexadecimal digits; values are encrypted with it before they are stored",
        default="",
        read=lambda text: _encryption_key(text) if text else None,
        secret=True,
    )
    secondary_encryption_key: bytes | None = setting(
        "the key before the primary one; values that it encrypted are still read",
        default="",
        read=lambda text: _encryption_key(text) if text else None,
        secret=True,
    )
    outbox_publish_pubsub: str = setting(
        "publish every upsert of a transaction through this pub/sub component", default=""
    )
    outbox_publish_topic: str = setting("the topic of those events", default="")
    outbox_pubsub: str = setting(
        "the pub/sub component of the outbox itself; by default the publishing one", default=""
    )
    outbox_discard_when_missing_state: bool = setting(
        "drop an event whose transaction is not there", default="false", read=switch
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LockMetadata:
    """What the runtime reads of a lock store."""

    key_prefix: str = setting(_PREFIX_TEXT, default="appid", read=_key_prefix)


NOT_YET = frozenset(
    (
        "bindings",
        "configuration",
        "conversation",
        "crypto",
        "middleware",
        "nameresolution",
        "pubsub",
        "workflow",
    )
)
"""Kinds that Dapr has and this runtime does not open."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind.

    Attributes:
        name: the first segment of its types.
        title: for people.
        promise: the class that all its components derive from.
        default_name: what the embedded component is called, where none is declared.
        default_type: its type.
        metadata: what the runtime reads, described by settings.
        capabilities: the names that Dapr's metadata API has for abilities; ``promise`` itself
            stands for what every component of the kind has.
    """

    name: str
    title: str
    promise: type[Component]
    default_name: str
    default_type: str
    metadata: type
    capabilities: tuple[tuple[type[Component], str], ...]

    def capabilities_of(self, component: type[Component]) -> list[str]:
        """Return the capabilities of a component class, by Dapr's names."""
        return [name for ability, name in self.capabilities if issubclass(component, ability)]


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            name="state",
            title="State stores",
            promise=state.StateStore,
            default_name="statestore",
            default_type="state.sqlite",
            metadata=StateMetadata,
            capabilities=(
                (state.StateStore, "ETAG"),
                (state.Transactional, "TRANSACTIONAL"),
                (state.Expiring, "TTL"),
                (state.Queryable, "QUERY_API"),
                (state.Transactional, "ACTOR"),
            ),
        ),
        Kind(
            name="lock",
            title="Lock stores",
            promise=lock.LockStore,
            default_name="lockstore",
            default_type="lock.sqlite",
            metadata=LockMetadata,
            capabilities=(),
        ),
        Kind(
            name="secretstores",
            title="Secret stores",
            promise=secretstores.SecretStore,
            default_name="secretstore",
            default_type="secretstores.local.env",
            metadata=NoMetadata,
            capabilities=((secretstores.MultiValued, "MULTIPLE_KEY_VALUES_PER_SECRET"),),
        ),
    )
}
"""By the first segment of their types, in the order in which people read about them."""


def kind_of(type_name: str) -> Kind | None:
    """Return the kind that a type such as ``state.sqlite`` is of, or None."""
    return KINDS.get(type_name.partition(".")[0])
