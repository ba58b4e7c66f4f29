"""The query service's app, put together."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from anyio import CapacityLimiter, fail_after
from anyio.to_thread import run_sync
from asgi_correlation_id import CorrelationIdMiddleware
from fastapi import FastAPI, Query, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette_compress import CompressMiddleware, add_compress_type

from k2 import __version__
from k2.api import first_figures, reference
from k2.api.access.auth import KeyRing
from k2.api.access.limits import Gate, GateLimits, Meter
from k2.api.page.route import page_router, read_assets
from k2.api.request import problems
from k2.api.request.access_log import AccessLog
from k2.api.request.admission import Service
from k2.api.request.context import RequestContext
from k2.api.request.page_tokens import PageTokens, token_key
from k2.api.routes import (
    aggregates,
    audit,
    calendars,
    companies,
    dead_letters,
    events,
    lasts,
    posted_questions,
    replay,
    snapshots,
)
from k2.api.websocket import StreamLimits, stream_router
from k2.forms.formats import MEDIA_TYPES, Format
from k2.forms.told import told
from k2.model.errors import K2Error
from k2.model.identity import IDENTITY_FILE, NONCE_PATTERN, proof, read_secret
from k2.model.settings import Settings
from k2.model.workload import QueryConfig
from k2.obs import metrics
from k2.obs.exposed import Exposed
from k2.query.opening import open_questions
from k2.query.questions import Questions

COMPRESS_FROM_BYTES = 4_096
READY_SECONDS = 4.0
_CORRELATION_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

DESCRIPTION = """Market data from Apache Iceberg tables: each answer comes from one snapshot and says which.

`start` is inclusive, `end` exclusive; times without an offset are UTC; decimals are strings. This is the analytical path:
answers in milliseconds to seconds, not an execution system."""


def create_app(config: QueryConfig, settings: Settings) -> FastAPI:
    """The app. Nothing is opened before the first request: tables and catalog may come later."""
    questions, engine = open_questions(config, settings, live=True)
    keys = KeyRing(config.api_keys_file)
    tokens = PageTokens(token_key(settings, config.api_keys_file))
    gate = Gate(GateLimits(config.max_running, config.max_waiting, config.max_wait_seconds, config.max_sending))
    access_log = AccessLog(config.access_log_file)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
        yield
        questions.close()
        engine.close()
        access_log.close()

    app = FastAPI(
        title="K2", version=__version__, description=DESCRIPTION, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.state.service = Service(questions, keys, config.max_rows, tokens, Meter(time.time, time.monotonic), gate)
    problems.install(app)
    reference.install(app)
    for kind in (
        events,
        lasts,
        posted_questions,
        aggregates,
        companies,
        calendars,
        snapshots,
        replay,
        audit,
        dead_letters,
    ):
        app.include_router(kind.router)
        first_figures.begin(kind.router.routes)
    app.include_router(stream_router(StreamLimits(config.max_streams, config.stall_seconds)))
    app.include_router(page_router(read_assets()))
    _add_operations(
        app, questions, None if config.api_keys_file is None else config.api_keys_file.parent / IDENTITY_FILE
    )
    # Text shrinks to a fifth; Parquet is packed already, and an Arrow stream is for those who want it fast. Brotli gains
    # nothing over zstd here, and a small answer is sent as it is.
    for form in (Format.NDJSON, Format.CSV):
        add_compress_type(MEDIA_TYPES[form].partition(";")[0])
    app.add_middleware(CompressMiddleware, minimum_size=COMPRESS_FROM_BYTES, zstd_level=1, gzip_level=1, brotli=False)
    # Last added stands outermost: the id first, then the log and metrics around everything else.
    if config.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(config.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["X-API-Key", "X-Correlation-ID", "Content-Type"],
            expose_headers=[
                "X-Correlation-ID",
                "K2-Snapshot-Id",
                "K2-Snapshot-Time",
                "K2-Complete-Until",
                "K2-More",
                "K2-Next-Page",
                "ETag",
                "K2-Hybrid",
                "K2-Sources",
                "K2-Stale-Seconds",
                "K2-Incomplete",
                "K2-Filter",
                "K2-Profile",
                "K2-Complete",
                "K2-Tail-Rows",
                "K2-Cursor",
                "K2-Done",
            ],
        )
    app.add_middleware(RequestContext, access_log=access_log, stall_seconds=config.stall_seconds)
    app.add_middleware(
        CorrelationIdMiddleware,
        header_name="X-Correlation-ID",
        generator=lambda: uuid.uuid4().hex,
        validator=lambda text: _CORRELATION_ID.fullmatch(text) is not None,
        transformer=lambda text: text,
    )
    return app


def _add_operations(app: FastAPI, questions: Questions, identity: Path | None) -> None:
    """The paths that need no key. They have threads of their own, so that they answer however busy the service is."""
    probing, measuring = CapacityLimiter(2), CapacityLimiter(1)
    exposed = Exposed(metrics.OF_QUERIES)

    @app.get("/health", tags=["operations"], summary="The process runs")
    async def health() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @app.get("/ready", tags=["operations"], summary="The tables can be read; 503 with the reason when not")
    async def ready() -> JSONResponse:
        try:
            with fail_after(READY_SECONDS):
                is_ready, reason = await run_sync(questions.ready, limiter=probing, abandon_on_cancel=True)
        except TimeoutError:
            is_ready, reason = False, f"The catalog has not answered for {READY_SECONDS:g} s"
        except K2Error as error:
            is_ready, reason = False, told(str(error))
        return JSONResponse({"ready": is_ready, "reason": reason}, 200 if is_ready else 503)

    # For K2's own commands (`k2.model.identity`), and of no use to anybody else.
    @app.get("/identity", include_in_schema=False)
    async def identify(request: Request, nonce: Annotated[str, Query(pattern=NONCE_PATTERN)]) -> JSONResponse:
        secret = None if identity is None else await run_sync(read_secret, identity, limiter=probing)
        address: tuple[str, int] | None = request.scope.get("server")
        if secret is None or address is None:
            return JSONResponse({"proof": None}, 404)
        return JSONResponse({"proof": proof(secret, nonce, address[1])})

    @app.get("/metrics", tags=["operations"], summary="Prometheus metrics")
    async def prometheus() -> Response:
        return Response(await run_sync(exposed.text, limiter=measuring), media_type=CONTENT_TYPE_LATEST)
