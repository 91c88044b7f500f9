"""The private key of an agent, prim or operator, as ``dekeys key new`` writes it."""

from __future__ import annotations

import base64
import binascii
import os
import stat
import warnings

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from .errors import KeyFileError

_PREFIX = "dekeys-key-1 ed25519 "


class KeyFile:
    """An Ed25519 key that signs requests. Shows only its public half."""

    __slots__ = ("__key", "public")

    #: The public half, ``ed25519:…``: what an operator enrols and a grant names as its holder.
    public: str

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self.__key = key
        raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.public = f"ed25519:{base64url(raw)}"

    @classmethod
    def generate(cls) -> KeyFile:
        """A new key that is kept nowhere."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> KeyFile:
        """Reads a key file. Warns when others on the machine can read it too.

        Raises :class:`KeyFileError` and :class:`OSError`.
        """
        with open(path, encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(65_537)
        if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
            warnings.warn(f"others can read {os.fspath(path)}: chmod 600 it", stacklevel=2)
        return cls.parse(text)

    @classmethod
    def parse(cls, text: str) -> KeyFile:
        """Reads the text of a key file, or of a PKCS#8 PEM file (RFC 8410). Raises :class:`KeyFileError`."""
        if text.lstrip().startswith("-----BEGIN"):
            return cls(_pem(text.strip()))
        lines = [line for line in map(str.strip, text.splitlines()) if line and not line.startswith("#")]
        if len(lines) != 1 or not lines[0].startswith(_PREFIX):
            raise KeyFileError("this is no key file: it holds neither `dekeys-key-1 ed25519 …` nor a PKCS#8 key")
        seed = unbase64url(lines[0].removeprefix(_PREFIX))
        if seed is None or len(seed) != 32:
            raise KeyFileError("the key file is damaged: its key is not 43 characters of base64url")
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    def sign(self, message: bytes) -> bytes:
        """Signs ``message`` as it is (RFC 8032): 64 bytes."""
        return self.__key.sign(message)

    def __repr__(self) -> str:
        return f"KeyFile({self.public})"


def base64url(data: bytes) -> str:
    """Base64url without padding (RFC 4648 §5)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def unbase64url(text: str) -> bytes | None:
    """The bytes of base64url without padding; ``None`` for anything that does not encode to the same text again."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if base64url(data) == text else None


def _pem(text: str) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError("the PKCS#8 file holds no unencrypted Ed25519 key")
    return key
