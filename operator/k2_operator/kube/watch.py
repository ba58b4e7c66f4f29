"""`on.event` handlers of every kind that K2 watches. No timers, daemons or create/update handlers.

Those force a finalizer, are edge-triggered, and run side by side for a feed and its Deployment; events into one queue do not.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import kopf

from k2_operator.kube.client import PAGE, resource_of
from k2_operator.kube.kinds import selector
from k2_operator.spec.resources import GROUP, VERSION

SILENCE_SECONDS = 75
"""A watch that brings nothing for so long has died: the API server sends a bookmark every minute."""

OURS = (("MarketFeed", "marketfeeds"), ("IcebergTable", "icebergtables"))

Seen = Callable[[dict[str, Any], bool], None]
"""Is told of an object, and whether it is gone."""


def register(registry: kopf.OperatorRegistry, seen: Seen, others: Sequence[str]) -> None:
    """Register a handler for each kind: our own two, and the others that are watched."""

    def handler(kind: str, version: str) -> Callable[..., Awaitable[None]]:
        # A coroutine, although it waits for nothing: kopf runs plain functions in threads, side by side.
        async def on_event(event: kopf.RawEvent, **_: Any) -> None:
            # The items of a list carry neither of the two.
            obj: dict[str, Any] = {"apiVersion": version, "kind": kind, **event["object"]}
            seen(obj, event["type"] == "DELETED")

        return on_event

    for kind, plural in OURS:
        identifier = f"k2-{plural}"
        kopf.on.event(GROUP, VERSION, plural, registry=registry, id=identifier)(handler(kind, f"{GROUP}/{VERSION}"))
    for kind in others:
        group, version, plural = resource_of(kind)
        full = f"{group}/{version}" if group else version
        kopf.on.event(group, version, plural, registry=registry, id=f"k2-{plural}")(handler(kind, full))


def configure(settings: kopf.OperatorSettings, others: Sequence[str]) -> None:
    """Set kopf up: alone, silent about its own doings, and never waiting for ever."""
    # Equal priorities of two peers freeze both; there is one of us (replicas: 1, Recreate).
    settings.peering.standalone = True
    # Ours are posted by `events`; kopf's would tell of handlers.
    settings.posting.enabled = False
    # A watch that has died silently is noticed: the API server sends a bookmark every minute.
    settings.watching.inactivity_timeout = SILENCE_SECONDS
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 30
    # As our own lists: see `Kube.list`.
    settings.watching.chunk_size = PAGE
    # A line for each event, with all of these settings in it.
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    # What is not in the configured namespaces is not ours to look for, and would need more rights.
    settings.scanning.disabled = True
    for kind in others:
        settings.watching.label_selectors[resource_of(kind)] = selector(kind)
