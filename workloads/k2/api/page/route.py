"""The pages at `/` and `/docs`: files of our own and the libraries that the wheel carries, served from memory.

They need no key; what they show comes from /v1, which does. They run nothing inline and contact nobody else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Header, Response
from starlette.exceptions import HTTPException

FOLDER = Path(__file__).parent
CHART_LIBRARY = "lib/lightweight-charts.js"
# What stands in a page where the address of a library goes; nothing when the library is not there.
_PLACES = {
    "lib/lightweight-charts.js": b"{{chart_library}}",
    "lib/swagger-ui.js": b"{{reference_library}}",
    "lib/swagger-ui.css": b"{{reference_style}}",
}
_PAGES = ("index.html", "docs.html")
_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".LICENSE": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
}
_SECURITY = "Content-Security-Policy"
_HEADERS = {
    # A style or script that a name or an error smuggled into the page would not run, nor could it send the key anywhere.
    _SECURITY: ("default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
# Swagger UI's icons stand in its style sheet.
_REFERENCE_HEADERS = {_SECURITY: f"{_HEADERS[_SECURITY]}; img-src 'self' data:"}
_FOREVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Asset:
    """One file as it is sent; `lasting` when its address changes with its content."""

    content: bytes
    media_type: str
    lasting: bool = False

    @property
    def digest(self) -> str:
        """Names the content."""
        return hashlib.sha256(self.content).hexdigest()[:16]


def read_assets(folder: Path = FOLDER) -> dict[str, Asset]:
    """What is served, by its path below /page; the pages themselves are `index.html` and `docs.html`."""
    found = dict(_files(folder))
    pages = {name: found[name].content for name in _PAGES}
    for name, place in _PLACES.items():
        library = found.pop(name, None)
        address = ""
        if library is not None:
            address = f"lib/{library.digest}/{Path(name).name}"
            found[address] = library
        for page, content in pages.items():
            pages[page] = content.replace(place, f"page/{address}".encode() if address else b"")
    return found | {name: Asset(content, found[name].media_type) for name, content in pages.items()}


def _files(folder: Path) -> Iterator[tuple[str, Asset]]:
    for path in sorted(folder.rglob("*")):
        media_type = _MEDIA_TYPES.get(path.suffix)
        if media_type is not None:
            name = path.relative_to(folder).as_posix()
            yield name, Asset(path.read_bytes(), media_type, lasting=name in _PLACES)


def page_router(assets: Mapping[str, Asset]) -> APIRouter:
    """Routes that serve these files. They are no part of the API's document."""
    router = APIRouter(include_in_schema=False)

    @router.api_route("/", methods=["GET", "HEAD"])
    async def page(if_none_match: Annotated[str | None, Header()] = None) -> Response:
        return _answer(assets["index.html"], if_none_match)

    @router.api_route("/docs", methods=["GET", "HEAD"])
    async def reference(if_none_match: Annotated[str | None, Header()] = None) -> Response:
        reply = _answer(assets["docs.html"], if_none_match)
        reply.headers.update(_REFERENCE_HEADERS)
        return reply

    @router.api_route("/page/{path:path}", methods=["GET", "HEAD"])
    async def file(path: str, if_none_match: Annotated[str | None, Header()] = None) -> Response:
        asset = assets.get(path)
        if asset is None:
            raise HTTPException(404, "Not Found")
        return _answer(asset, if_none_match)

    return router


def _answer(asset: Asset, if_none_match: str | None) -> Response:
    # Weak: the same file may leave here compressed or not.
    tag = f'W/"{asset.digest}"'
    headers = _HEADERS | {"ETag": tag, "Cache-Control": _FOREVER if asset.lasting else "no-cache"}
    held = {each.strip().removeprefix("W/") for each in (if_none_match or "").split(",")}
    if tag.removeprefix("W/") in held or "*" in held:
        return Response(status_code=304, headers=headers)
    return Response(asset.content, headers=headers, media_type=asset.media_type)
