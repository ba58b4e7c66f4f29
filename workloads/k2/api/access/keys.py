"""API keys as their file holds them: whose each is, from when to when it opens, what it sees and how much it may ask.

A key is `k2_<prefix>_<secret>`. The file holds the prefix and the SHA-256 of the whole key. Against guessing a slow hash
adds nothing: the secret has 256 random bits, not the few of a password.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import secrets
import string
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from k2.model.errors import UserError, WorldError
from k2.model.times import midnight
from k2.model.topics import DataType
from k2.query.asked.requests import check_symbol, exchange_code
from k2.query.rows.visibility import EVERYTHING, Sight

_ALPHABET = string.ascii_letters + string.digits  # no sign that would end the word under a double click
_PREFIX_CHARACTERS, _SECRET_CHARACTERS = 8, 43  # 62^43 > 2^256
_KEY = re.compile(r"k2_([a-zA-Z0-9]{8})_[a-zA-Z0-9]{43}")


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _exchange(value: Any) -> Any:
    try:
        return exchange_code(value) if isinstance(value, str) else value
    except UserError as error:
        raise ValueError(str(error)) from error


def _symbol(value: Any) -> Any:
    try:
        return check_symbol(value) if isinstance(value, str) else value
    except UserError as error:
        raise ValueError(str(error)) from error


class KeyRules(_Entry):
    """What the holder of a key may see; None is no bound."""

    tables: tuple[DataType, ...] | None = Field(default=None, min_length=1, description="trades, quotes, …")
    exchanges: tuple[Annotated[str, BeforeValidator(_exchange)], ...] | None = Field(default=None, min_length=1)
    symbols: tuple[Annotated[str, BeforeValidator(_symbol)], ...] | None = Field(default=None, min_length=1)
    oldest: date | None = Field(default=None, description="First day (UTC) whose events are seen.")

    def sight(self) -> Sight:
        """The same for the planner."""
        return Sight(
            data_types=None if self.tables is None else frozenset(self.tables),
            exchanges=None if self.exchanges is None else frozenset(self.exchanges),
            symbols=None if self.symbols is None else frozenset(self.symbols),
            oldest_us=None if self.oldest is None else midnight(self.oldest),
        )


class KeyLimits(_Entry):
    """How much the holder of a key may ask of one replica of the service; None is no bound."""

    requests_per_second: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    burst: int | None = Field(default=None, ge=1, description="Requests at once; default: those of a second.")
    concurrent: int | None = Field(default=None, ge=1, description="Requests under way.")
    rows_per_day: int | None = Field(default=None, ge=1, description="Rows in answers, per UTC day.")

    @property
    def bucket(self) -> int:
        """Requests that may come at once."""
        return self.burst or max(1, math.ceil(self.requests_per_second or 1))


class ApiKey(_Entry):
    """One entry of the file. `sha256`: of the whole key, in hex. Without `prefix`, the key is any text."""

    name: str = Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")
    sha256: str = Field(pattern=r"^[0-9a-fA-F]{64}$")
    prefix: str | None = Field(default=None, pattern=r"^[a-zA-Z0-9]{8}$")
    created: AwareDatetime | None = None
    not_before: AwareDatetime | None = None
    expires: AwareDatetime | None = None
    rules: KeyRules | None = None
    limits: KeyLimits | None = None

    @property
    def sight(self) -> Sight:
        """What the holder may see."""
        return EVERYTHING if self.rules is None else self.rules.sight()

    def state(self, now: datetime) -> str:
        """`active`, `pending` (not yet) or `expired`."""
        if self.expires is not None and now >= self.expires:
            return "expired"
        return "pending" if self.not_before is not None and now < self.not_before else "active"


KEYS = TypeAdapter(tuple[ApiKey, ...])


def prefix_of(key: str) -> str | None:
    """The prefix of a key of today's form; None for any other text."""
    match = _KEY.fullmatch(key)
    return None if match is None else match[1]


def digest_of(key: str) -> str:
    """What of a key is kept at rest: its SHA-256, in hex."""
    return hashlib.sha256(key.encode()).hexdigest()


def new_key(
    name: str,
    *,
    now: datetime,
    not_before: datetime | None = None,
    expires: datetime | None = None,
    rules: KeyRules | None = None,
    limits: KeyLimits | None = None,
) -> tuple[str, ApiKey]:
    """A random key, which nothing keeps, and its entry.

    Raises:
        UserError: the key would expire before it opens.
    """
    if expires is not None and expires <= (not_before or now):
        raise UserError("The key would never open", found=f"expires {expires.isoformat()}", expected="a later time")
    prefix, secret = _random(_PREFIX_CHARACTERS), _random(_SECRET_CHARACTERS)
    key = f"k2_{prefix}_{secret}"
    try:
        entry = ApiKey(
            name=name,
            prefix=prefix,
            sha256=digest_of(key),
            created=now.astimezone(UTC).replace(microsecond=0),
            not_before=not_before,
            expires=expires,
            rules=rules,
            limits=limits,
        )
    except ValidationError as error:
        raise UserError("Not a key's name", found=name, expected="1 to 128 printable characters") from error
    return key, entry


def parse_keys(text: str) -> tuple[ApiKey, ...]:
    """The entries of the file's text; a `ValueError` that repeats nothing of what it holds."""
    try:
        return KEYS.validate_python(json.loads(text))
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"]) or "its top"
        raise ValueError(f"wrong entry at {where}: {error.errors()[0]['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {type(error).__name__}") from None


def render_keys(keys: Sequence[ApiKey]) -> str:
    """The file's text."""
    return json.dumps([entry.model_dump(mode="json", exclude_none=True) for entry in keys], indent=1) + "\n"


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """The entries of a file; none where there is no file. A broken one is a `UserError`."""
    try:
        return parse_keys(path.read_text())
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise WorldError(f"The file of keys {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(
            f"The file of keys {path} cannot be used", found=str(error), expected="a list of keys"
        ) from error


def write_keys(path: Path, keys: Sequence[ApiKey]) -> None:
    """Replace the file at once, readable by its owner alone. A service that reads it meets the old or the new one.

    Raises:
        WorldError: it cannot be written.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Through a link, so that the file that it leads to is replaced and not the link.
        target = path.resolve()
        descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)  # 0600 from the start
        with os.fdopen(descriptor, "w") as file:
            file.write(render_keys(keys))
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(target)
    except OSError as error:
        if temporary is not None:
            with suppress(OSError):
                Path(temporary).unlink()
        raise WorldError(f"The file of keys {path} cannot be written: {error.strerror}") from error


def kubernetes_secret(keys: Sequence[ApiKey], name: str, namespace: str | None) -> dict[str, Any]:
    """The Secret that the chart's `query.apiKeys.existingSecret` names."""
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": "Opaque",
        "stringData": {"keys.json": render_keys(keys)},
    }


def _random(characters: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(characters))
