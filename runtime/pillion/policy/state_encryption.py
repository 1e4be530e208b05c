"""Values that are encrypted before a store sees them.

AES-GCM (NIST SP 800-38D) with a random nonce of 96 bits before the ciphertext, in base64, and
behind it ``||`` and the name of the key, so that values from before a change of keys are still
read. The name is a digest of the key: it stays the same when the key moves from primary to
secondary. A value whose name is neither's, as other programs write, is tried with both keys.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable

from pillion.errors import Failure

_SEPARATOR = b"||"
_NONCE = 12
_TAG = 16


class Unreadable(Failure):
    """A stored value cannot be decrypted."""

    reason = "not-decrypted"


class Cipher:
    """Encrypts with one key, decrypts with two.

    Args:
        primary: AES key of 16, 24 or 32 bytes; None encrypts with ``secondary``.
        secondary: the key before it; None for none. One of the two is there.
        random: gives that many random bytes, fit for cryptography.
    """

    __slots__ = ("_keys", "_name", "_random")

    def __init__(
        self, primary: bytes | None, secondary: bytes | None, random: Callable[[int], bytes]
    ) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # only where it is used

        keys = [key for key in (primary, secondary) if key]
        self._keys = {_name_of(key): AESGCM(key) for key in keys}
        self._name = _name_of(keys[0])
        self._random = random

    def encrypt(self, value: bytes) -> bytes:
        """Return what the store keeps."""
        nonce = self._random(_NONCE)
        sealed = nonce + self._keys[self._name].encrypt(nonce, value, None)
        return base64.b64encode(sealed) + _SEPARATOR + self._name

    def decrypt(self, stored: bytes) -> bytes:
        """Return the value.

        Raises:
            Unreadable: it is not encrypted, or with none of the keys, or it was changed.
        """
        from cryptography.exceptions import InvalidTag

        text, separator, name = stored.rpartition(_SEPARATOR)
        if not separator or not name:
            raise Unreadable(
                "the stored value is not encrypted, and the component has encryption keys; save it "
                "again, or read it through a component without them"
            )
        try:
            sealed = base64.b64decode(text, validate=True)
        except binascii.Error:
            sealed = b""
        if len(sealed) < _NONCE + _TAG:
            raise Unreadable("the stored value is damaged: it is no encrypted value")
        known = self._keys.get(name)
        for key in (known,) if known is not None else self._keys.values():
            try:
                return key.decrypt(sealed[:_NONCE], sealed[_NONCE:], None)
            except InvalidTag:
                continue
        raise Unreadable(
            "the stored value was encrypted with another key, or changed since; add the key it was "
            "written with as secondaryEncryptionKey"
        )


def _name_of(key: bytes) -> bytes:
    return hashlib.sha256(b"pillion state key " + key).hexdigest()[:16].encode()


__all__ = ["Cipher", "Unreadable"]
