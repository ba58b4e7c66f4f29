"""The key that requests carry. One that a person gave goes where they say; one of a data directory to its own service alone."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import SecretStr

from k2.model.errors import UserError
from k2.model.identity import DirectoryKey, proof

Answers = Callable[[str], str | None]
"""Asks the service at the address for its answer to a nonce; None: it has none."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Gives the headers of each request.

    Args:
        key: None: requests carry no key.
        url: the address that they go to, as a person knows it.
        port: of that address.
        ask: how a nonce is sent there.
    """

    key: SecretStr | None
    url: str
    port: int
    ask: Answers

    def headers(self) -> dict[str, str]:
        """The headers that show the key.

        Of a data directory's key the service is asked each time: between two requests another program may have taken the port.

        Raises:
            UserError: what answers did not prove that it is the service of the key's directory; it has seen nothing of the key.
        """
        if self.key is None:
            return {}
        if isinstance(self.key, DirectoryKey):
            self._check(self.key)
        return {"X-API-Key": self.key.get_secret_value()}

    def _check(self, key: DirectoryKey) -> None:
        secret = key.secret()
        nonce = secrets.token_hex(32)
        said = None if secret is None else self.ask(nonce)
        if (
            secret is None
            or said is None
            or not hmac.compare_digest(said.encode(), proof(secret, nonce, self.port).encode())
        ):
            found = "no secret in the directory" if secret is None else "no proof" if said is None else "a wrong proof"
            raise UserError(
                f"The key in {key.directory} was not sent: what answers at {self.url} is not known to be the service of that "
                "directory",
                found=found,
                expected="the service that `k2 up` starts there",
                remedy="Start it again with `k2 up`, or say with K2_API_KEY that this service may have the key",
            )
