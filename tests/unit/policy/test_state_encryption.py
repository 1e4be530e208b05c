"""Values at rest: only the right key reads them, and a change of keys loses nothing."""

from __future__ import annotations

import base64
import os
from itertools import count

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from pillion.policy.state_encryption import Cipher, Unreadable

OLD, NEW = bytes(range(16)), bytes(range(32))


@given(st.binary(max_size=64), st.sampled_from([16, 24, 32]))
def test_round_trip(value: bytes, size: int) -> None:
    """What was encrypted is decrypted, and cannot be seen."""
    cipher = Cipher(bytes(size), None, os.urandom)
    stored = cipher.encrypt(value)
    assert cipher.decrypt(stored) == value
    assert len(value) < 8 or value not in stored


def test_each_value_has_its_own_nonce() -> None:
    """The nonce is what the random source gives, 12 bytes for each value."""
    numbers = count(1)
    cipher = Cipher(NEW, None, lambda size: next(numbers).to_bytes(size, "big"))
    nonces = [base64.b64decode(cipher.encrypt(b"v").rpartition(b"||")[0])[:12] for _ in range(2)]
    assert nonces == [(1).to_bytes(12, "big"), (2).to_bytes(12, "big")]


def test_key_change() -> None:
    """The old key's values are read while it is secondary; new ones have the new key."""
    stored = Cipher(OLD, None, os.urandom).encrypt(b"v")
    both = Cipher(NEW, OLD, os.urandom)
    assert both.decrypt(stored) == b"v"
    assert Cipher(NEW, None, os.urandom).decrypt(both.encrypt(b"w")) == b"w"
    assert Cipher(None, OLD, os.urandom).decrypt(stored) == b"v"
    with pytest.raises(Unreadable, match="another key"):
        Cipher(NEW, None, os.urandom).decrypt(stored)


def test_value_with_a_key_name_of_another_program() -> None:
    """Both keys are tried for a name that is neither's."""
    nonce = bytes(12)
    sealed = base64.b64encode(nonce + AESGCM(OLD).encrypt(nonce, b"v", None))
    assert Cipher(NEW, OLD, os.urandom).decrypt(sealed + b"||statekey") == b"v"
    with pytest.raises(Unreadable):
        Cipher(NEW, None, os.urandom).decrypt(sealed + b"||statekey")


@pytest.mark.parametrize(
    "stored", [b"", b'"plain"', b"plain||", b"||name", b"!!||name", b"AAAA||name", b"\xff||x"]
)
def test_what_is_no_encrypted_value(stored: bytes) -> None:
    """Plain and damaged values are refused, and not shown."""
    with pytest.raises(Unreadable) as caught:
        Cipher(NEW, OLD, os.urandom).decrypt(stored)
    assert "plain" not in caught.value.message


@given(st.integers(0, 10_000))
def test_changed_values_are_refused(position: int) -> None:
    """A bit that was changed on disk is found."""
    cipher = Cipher(NEW, None, os.urandom)
    sealed, _, name = cipher.encrypt(b"the value").rpartition(b"||")
    data = bytearray(base64.b64decode(sealed))
    data[position // 8 % len(data)] ^= 1 << position % 8
    with pytest.raises(Unreadable):
        cipher.decrypt(base64.b64encode(bytes(data)) + b"||" + name)
