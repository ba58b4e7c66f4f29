"""Clocks: Kafka's, the registry's, the catalog's and the store's against this machine's."""

from __future__ import annotations

import time
from collections.abc import Callable

from k2.bus.clocks import Clock, ClockOffset, broker_clock, http_clock
from k2.doctor.checks import Check, DoubtfulError, Group, SkippedError, WrongError
from k2.doctor.lake import REACHED
from k2.model.errors import K2Error
from k2.model.settings import Settings

DOUBTFUL_SECONDS = 1.0
WRONG_SECONDS = 30.0
"""PyIceberg refuses a commit that is a minute older than the newest one, S3 a request that is a quarter of an hour off."""

ANSWER_SECONDS = 3.0
TOPIC_SECONDS = 8.0
"""A topic is made and written to twice in this time, then deleted."""

_REMEDY = (
    "Let both machines follow the same time servers (chrony, systemd-timesyncd; on Kubernetes it is the nodes'). Retention, "
    "ingestion times and the order of commits go by them."
)


def clocks(settings: Settings, *, write: bool = True, clock: Clock = time.time) -> Group:
    """Checks of the clocks around this machine.

    Args:
        settings: where everything is.
        write: whether a topic may be made and deleted: by nothing less does a broker tell its time.
        clock: this machine's.
    """
    properties = settings.catalog_properties or {}

    def kafka() -> str:
        if not write:
            raise SkippedError("a broker tells its time by a message alone: --write")
        return _judged(lambda: broker_clock(settings.kafka_config(), TOPIC_SECONDS, clock=clock))

    def registry() -> str:
        authority = settings.registry_config().get("ssl.ca.location", True)
        return _judged(lambda: http_clock(str(settings.registry_url), ANSWER_SECONDS, authority=authority, clock=clock))

    def catalog() -> str:
        return _of_a_server(properties.get("uri", ""), "the catalog is no HTTP service", clock)

    def store() -> str:
        return _of_a_server(properties.get("s3.endpoint", ""), "no s3.endpoint is named", clock)

    return Group(
        "Clocks",
        [
            Check("clock-kafka", kafka, ["kafka-cluster"], _REMEDY, 2 * TOPIC_SECONDS),
            Check("clock-registry", registry, ["registry-api"], _REMEDY, 2 * ANSWER_SECONDS),
            Check("clock-catalog", catalog, REACHED, _REMEDY, 2 * ANSWER_SECONDS),
            Check("clock-store", store, (), _REMEDY, 2 * ANSWER_SECONDS),
        ],
    )


def _of_a_server(url: str, none: str, clock: Clock) -> str:
    if not url.startswith(("http://", "https://")):
        raise SkippedError(none)
    return _judged(lambda: http_clock(url, ANSWER_SECONDS, clock=clock))


def _judged(ask: Callable[[], ClockOffset | None]) -> str:
    try:
        found = ask()
    except K2Error as error:
        # Whether it can be reached is another check's; here it would be the same fault twice.
        raise SkippedError(str(error)) from error
    if found is None:
        raise SkippedError("it gives no Date")
    side = "ahead of" if found.seconds > 0 else "behind"
    text = f"{abs(found.seconds):.1f} s {side} this machine's, within {found.within:.1f} s"
    if found.beyond_doubt > WRONG_SECONDS:
        raise WrongError(text)
    if found.beyond_doubt > DOUBTFUL_SECONDS:
        raise DoubtfulError(text)
    return text
