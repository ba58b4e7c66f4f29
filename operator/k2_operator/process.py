"""The operator as a process. kopf watches; everything else is ours (`controller`)."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import kopf
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from k2.model.errors import K2Error, UserError
from k2.model.exchanges import known, use
from k2.model.platform import Platform
from k2.model.settings import Settings
from k2.obs.exposed import Exposed
from k2.obs.logging import configure_logging, get_logger
from k2_operator.kube import access, watch
from k2_operator.kube import metrics as kube_metrics
from k2_operator.kube.client import Kube
from k2_operator.kube.kinds import watched_kinds
from k2_operator.reconcile import metrics
from k2_operator.reconcile.backends import Backends
from k2_operator.reconcile.cache_figures import CacheFigures
from k2_operator.reconcile.controller import Controller, Intervals

_log = get_logger("k2_operator")


class OperatorSettings(BaseSettings):
    """What the operator takes from the environment besides `k2.model.settings`."""

    model_config = SettingsConfigDict(env_prefix="K2_OPERATOR_", frozen=True, extra="ignore")

    cluster_wide: bool = Field(default=False, description="Watch every namespace; needs a ClusterRole.")
    namespaces: list[str] = Field(
        default_factory=list, description="Namespaces to watch, as a JSON list; default: the operator's own."
    )
    resync_seconds: float = Field(
        default=Intervals().resync,
        ge=5,
        description="Seconds between two looks at everything, whatever has been seen to change.",
    )
    collect_seconds: float = Field(
        default=Intervals().collect,
        ge=0.5,
        description="Seconds between two rounds in which lag, freshness and tables are measured.",
    )
    look_seconds: float = Field(
        default=Intervals().look,
        ge=0.5,
        description="Seconds between two questions whether Kafka, registry, catalog and store are there.",
    )
    workload_image: str | None = Field(
        default=None, description="Image of the workloads, over the one in platform.yaml (for development tools)."
    )


async def run(settings: Settings, own: OperatorSettings) -> None:
    """Run until a signal."""
    platform = _platform(settings, own)
    registry, configuration = kopf.OperatorRegistry(), kopf.OperatorSettings()
    watched = watched_kinds(platform)
    watch.configure(configuration, watched)
    found = access.access(configuration)
    namespaces = None if own.cluster_wide else (own.namespaces or [found.namespace])
    async with Kube(lambda: access.access(configuration)) as kube:
        # What was found well is asked for again by the next resync, not before.
        backends = Backends(settings, check_seconds=0.9 * own.resync_seconds)
        intervals = Intervals(own.resync_seconds, own.collect_seconds, own.look_seconds)
        controller = Controller(kube, platform, backends, namespaces, intervals)
        access.register(registry)
        watch.register(registry, controller.seen, watched)

        async def on_startup(**_: Any) -> None:
            await controller.start()

        kopf.on.startup(registry=registry, id="k2-start")(on_startup)
        server = await _serve(settings, controller)
        try:
            await kopf.operator(
                registry=registry,
                settings=configuration,
                clusterwide=namespaces is None,
                namespaces=namespaces or (),
                standalone=True,
            )
        finally:
            await controller.stop()
            await server.cleanup()


def _platform(settings: Settings, own: OperatorSettings) -> Platform:
    path = settings.platform_file or settings.data_dir / "platform.yaml"
    if not Path(path).exists():
        raise UserError("The platform's settings are not there", found=str(path), expected="K2_PLATFORM_FILE")
    platform = Platform.read(Path(path))
    use(platform.exchanges_said)
    known()  # what is wrong with them is told now, not of every feed
    if own.workload_image is None:
        return platform
    images = platform.images.model_copy(update={"workload": own.workload_image})
    return platform.model_copy(update={"images": images})


async def _serve(settings: Settings, controller: Controller) -> web.AppRunner:
    """/metrics, /health and /ready in the operator's own loop: when that hangs, they do not answer."""
    exposed = Exposed((*kube_metrics.ALL, *metrics.ALL, CacheFigures(controller.cache)))

    async def show(_: web.Request) -> web.Response:
        return web.Response(body=exposed.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def health(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if controller.alive else web.Response(status=503, text="a task has ended\n")

    async def ready(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if controller.ready else web.Response(status=503, text="not started\n")

    application = web.Application()
    application.add_routes([web.get("/metrics", show), web.get("/health", health), web.get("/ready", ready)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, settings.http_host, settings.metrics_port).start()
    return runner


def main() -> int:
    """Entry point; the exit code is 2 for a mistake in the settings, 1 for anything else."""
    settings = Settings().resolved()
    try:
        configure_logging(settings)
        logging.getLogger("httpx2").setLevel(logging.WARNING)  # a line for each request to the registry
        asyncio.run(run(settings, OperatorSettings()))
    except K2Error as error:
        _log.error("operator.failed", error=str(error))
        return 2 if isinstance(error, UserError) else 1
    return 0
