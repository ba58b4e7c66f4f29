"""Page tokens: what a question was, the snapshots that answer it and the last row given, signed so that nobody makes up one.

A token says all that the next page needs, so any replica with the same key goes on, also after a restart. Reading one is
pure; only the key comes from outside.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import os
import secrets
import tempfile
import zlib
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from k2.model.errors import UserError, WorldError
from k2.model.events import SortKey
from k2.model.prints import PrintFilter
from k2.model.settings import Settings
from k2.model.topics import DataType
from k2.query.asked.adjusted import Adjusting
from k2.query.asked.requests import At, EventsQuery, Window

KEY_FILE = "page-token-key"
# Of a token with filters: a replica that does not know of them must not go on without.
_VERSION, _FILTERED = 3, 4
_MAC_BYTES = 16
_LONGEST = 32_768
# What of a question a token fixes; only the number of rows and their form may change from page to page.
_FIXED = ("symbols", "exchange", "window", "fields", "at", "since", "prints", "adjusted")


@dataclass(frozen=True, slots=True)
class PageTokens:
    """Makes and reads tokens. Those of another key are refused."""

    key: bytes

    def seal(self, query: EventsQuery, at: At, last: SortKey, adjusting: Adjusting | None = None) -> str:
        """The token of the page after `last`.

        Args:
            query: what was asked for first.
            at: which rows answered it.
            last: where they ended.
            adjusting: which tables gave the factors that they were adjusted by.
        """
        content = {
            "v": _FILTERED if query.prints else _VERSION,
            "table": query.data_type.value,
            "symbols": query.symbols,
            "exchange": query.exchange,
            "window": query.window.to_list(),
            "fields": query.fields,
            "at": (query.at.snapshot, query.at.as_of_us, query.at.pin, query.at.hybrid),
            "since": query.since,
            "tables": at.tables,
            "ends": at.ends,
            "last": last,
            **({} if adjusting is None else {"adjusted": adjusting.to_list()}),
        }
        if query.prints:
            content["prints"] = [each.to_dict() for each in query.prints]
        packed = zlib.compress(json.dumps(content, separators=(",", ":")).encode())
        return base64.urlsafe_b64encode(self._mac(packed) + packed).decode().rstrip("=")

    def open(self, token: str) -> tuple[EventsQuery, At, SortKey]:
        """The first question, with what it was adjusted by, which rows answered it, and where its page ended.

        Raises:
            UserError: it was not made with this key, or was changed.
        """
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise _unusable() from None
        mac, packed = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if len(token) > _LONGEST or not hmac.compare_digest(mac, self._mac(packed)):
            raise _unusable()
        held: dict[str, Any] = json.loads(zlib.decompress(packed))
        if held["v"] != (_FILTERED if "prints" in held else _VERSION):
            raise _unusable()
        query = EventsQuery(
            DataType(held["table"]),
            tuple(held["symbols"]),
            held["exchange"],
            Window.from_list(held["window"]),
            at=At(*held["at"]),
            fields=tuple(held["fields"]),
            since=held["since"],
            prints=tuple(PrintFilter.from_dict(each) for each in held.get("prints", ())),
            adjusted=Adjusting.from_list(held["adjusted"]) if "adjusted" in held else None,
        )
        at = At(
            ends=tuple((topic_id, partition, end) for topic_id, partition, end in held["ends"]),
            tables=tuple((table, snapshot) for table, snapshot in held["tables"]),
        )
        return query, at, tuple((name, value) for name, value in held["last"])

    def resume(self, token: str, asked: EventsQuery, given: Collection[str]) -> tuple[EventsQuery, EventsQuery]:
        """The question that a token goes on with, and the one that was asked first.

        Args:
            token: as an answer gave it.
            asked: the question that came with it.
            given: which of its parts the request named: they must be the token's; the others are taken from the token.

        Raises:
            UserError: the token is of another table or question, or of none.
        """
        answered, at, last = self.open(token)
        first = answered
        if answered.adjusted is not None:  # as it was asked for
            first = replace(answered, adjusted=Adjusting(answered.adjusted.to))
        if first.data_type is not asked.data_type:
            raise UserError(
                "page_token is of another table", found=first.data_type.value, expected=asked.data_type.value
            )
        for part in _FIXED:
            if part in given and getattr(first, part) != getattr(asked, part):
                raise UserError(
                    f"page_token is of another question: {part} differs",
                    found=_described(getattr(asked, part)),
                    expected=_described(getattr(first, part)),
                    remedy="Send the token with the parameters of the first page, or alone",
                )
        first = replace(first, limit=asked.limit)
        return replace(first, at=at, after=last, adjusted=answered.adjusted), first

    def _mac(self, packed: bytes) -> bytes:
        return hmac.digest(self.key, packed, sha256)[:_MAC_BYTES]


def token_key(settings: Settings, api_keys_file: Path | None) -> bytes:
    """The key of this service's tokens, the same for all its replicas and after a restart.

    `K2_PAGE_TOKEN_KEY`, else the file `page-token-key` beside the API keys (the same Secret), else one that is made in the
    data directory (0600).
    """
    if settings.page_token_key is not None:
        return settings.page_token_key.get_secret_value().encode()
    if api_keys_file is not None and (shared := api_keys_file.parent / KEY_FILE).exists():
        return shared.read_bytes().strip()
    path = settings.data_dir / KEY_FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _make_key(path)
        return path.read_bytes().strip()
    except OSError as error:
        raise WorldError(
            f"The key of the page tokens cannot be kept in {path}: {error}. Set K2_PAGE_TOKEN_KEY"
        ) from error


def _make_key(path: Path) -> None:
    """Whole or not at all: another process that starts now reads the same key."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent) as file:  # 0600
        file.write(secrets.token_hex(32))
        file.flush()
        with suppress(FileExistsError):
            os.link(file.name, path)


def _described(part: object) -> str:
    if isinstance(part, Adjusting):
        return part.to.value
    if isinstance(part, tuple):
        return ", ".join(str(each.to_dict() if isinstance(each, PrintFilter) else each) for each in part) or "none"
    return str(part)


def _unusable() -> UserError:
    return UserError(
        "page_token cannot be used",
        expected="the next_page of an answer of this service, unchanged",
        remedy="Begin again with the first page",
    )
