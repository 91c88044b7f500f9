"""dekeys: short-lived tokens for agents, vendor keys for the moment of use.

A prim swaps an agent's token for a vendor's key::

    from dekeys import Dekeys

    with Dekeys("http://127.0.0.1:8402", key_file="prim.key") as dekeys:
        key = dekeys.resolve("dk://demo/echo:read", token)
"""

from .client import AsyncDekeys, Dekeys
from .core import Grant
from .errors import (
    DekeysError,
    ForeignAnswer,
    GrantOver,
    KeyFileError,
    NotAllowed,
    NotFound,
    PaymentRequired,
    RateLimited,
    Refused,
    TokenRefused,
    Unauthenticated,
    Unavailable,
    Unreachable,
    Unsupported,
)
from .keyfile import KeyFile
from .lease import Injection, Resolved
from .secret import Secret
from .signature import SessionAuth, SignatureAuth
from .token import Claims, PublicKeys, narrow, pin, read, verify
from .verifier import FeedRefused, Verifier

__version__ = "0.1.0"

__all__ = [
    "AsyncDekeys",
    "Claims",
    "Dekeys",
    "DekeysError",
    "FeedRefused",
    "ForeignAnswer",
    "Grant",
    "GrantOver",
    "Injection",
    "KeyFile",
    "KeyFileError",
    "NotAllowed",
    "NotFound",
    "PaymentRequired",
    "PublicKeys",
    "RateLimited",
    "Refused",
    "Resolved",
    "Secret",
    "SessionAuth",
    "SignatureAuth",
    "TokenRefused",
    "Unauthenticated",
    "Unavailable",
    "Unreachable",
    "Unsupported",
    "Verifier",
    "narrow",
    "pin",
    "read",
    "verify",
]
