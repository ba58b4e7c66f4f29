"""How the service of a data directory proves to a command that it is that one, before the directory's key is shown to it.

`k2 up` keeps a secret beside the service's keys, which its owner alone can read. A command sends a number used once; who knows
the secret answers with its HMAC. The port is part of it: a program that has taken the port, and passes the question on to the
service on another one, gets an answer that is of no use here. No key is part of it: an answer must not help to guess one.
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from pathlib import Path

from pydantic import SecretStr

API_KEYS_FOLDER = Path("secrets") / "k2-api-keys"
"""Where a data directory keeps what the query service knows its callers by."""

IDENTITY_FILE = "identity"
NONCE_PATTERN = r"^[0-9a-f]{32,128}$"


class DirectoryKey(SecretStr):
    """A key that was found in a data directory: nobody said where it may go, so it is for the platform of that directory."""

    def __init__(self, key: str, directory: Path) -> None:
        super().__init__(key)
        self.directory = directory

    def secret(self) -> bytes | None:
        """What the directory's service knows too; None: it has none, or others alone can read it."""
        return read_secret(self.directory / API_KEYS_FOLDER / IDENTITY_FILE)


def read_secret(path: Path) -> bytes | None:
    """The content of the file; None when it is not there, is empty, or cannot be read."""
    try:
        return path.read_bytes().strip() or None
    except OSError:
        return None


def proof(secret: bytes, nonce: str, port: int) -> str:
    """What the service that listens on that port answers to the nonce, in hex."""
    return hmac.digest(secret, f"k2-identity\x1f{nonce}\x1f{port}".encode(), sha256).hex()
