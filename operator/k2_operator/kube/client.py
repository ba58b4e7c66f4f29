"""The Kubernetes API, as far as the operator needs it: list, read, server-side apply, delete, Events. The one HTTP client.

Whatever fails is an `ApiError` with the server's own words. Nothing here retries: the queue does, per key and with backoff.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

import aiohttp

from k2.model.errors import WorldError
from k2_operator.kube import metrics
from k2_operator.spec.objects import Object, Ref
from k2_operator.spec.ownership import FIELD_MANAGER
from k2_operator.spec.resources import API_VERSION

REQUEST_SECONDS = 30.0
PAGE = 50
"""Objects that are listed at a time."""

REFRESH_SECONDS = 60.0
"""A pod's token is replaced every hour or so: it is read again this often."""
_METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"

_KINDS: Mapping[str, tuple[str, str]] = {
    "MarketFeed": (API_VERSION, "marketfeeds"),
    "IcebergTable": (API_VERSION, "icebergtables"),
    "Deployment": ("apps/v1", "deployments"),
    "Job": ("batch/v1", "jobs"),
    "CronJob": ("batch/v1", "cronjobs"),
    "HorizontalPodAutoscaler": ("autoscaling/v2", "horizontalpodautoscalers"),
    "ScaledObject": ("keda.sh/v1alpha1", "scaledobjects"),
    "ConfigMap": ("v1", "configmaps"),
    "Service": ("v1", "services"),
    "Secret": ("v1", "secrets"),
    "Event": ("v1", "events"),
    "Pod": ("v1", "pods"),
    "PodDisruptionBudget": ("policy/v1", "poddisruptionbudgets"),
    "KafkaTopic": ("kafka.strimzi.io/v1", "kafkatopics"),
}


class ApiError(WorldError):
    """The API server did not do as asked; `status` is HTTP's, `reason` is Kubernetes' (`Conflict`, `Invalid`, …)."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Access:
    """How the API server is reached: its address, headers with the credentials, and what TLS needs."""

    server: str
    headers: Mapping[str, str]
    tls: ssl.SSLContext | None
    namespace: str = "default"


class Kube:
    """A client of one API server; `access` is asked again now and then, because tokens are replaced."""

    def __init__(self, access: Callable[[], Access]) -> None:
        self._find = access
        self._access = access()
        self._asked = time.monotonic()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=32, ssl=self._access.tls or False), timeout=timeout
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def list(self, kind: str, namespace: str | None, selector: str = "") -> AsyncGenerator[dict[str, Any]]:
        """All objects of a kind in a namespace (None: in all), with `kind` and `apiVersion`, which lists leave out.

        They come a page at a time: with its `managedFields` an object is ten times what is kept of it, and memory that thousands have
        taken at once is not given back.
        """
        version, _ = _KINDS[kind]
        query = {"limit": str(PAGE)} | ({"labelSelector": selector} if selector else {})
        while True:
            answer = await self._request("GET", _path(kind, namespace or ""), query)
            following = answer["metadata"].get("continue")
            for item in answer["items"]:
                yield {"apiVersion": version, "kind": kind, **item}
            del answer
            if not following:
                return
            query["continue"] = following

    async def get(self, where: Ref) -> dict[str, Any] | None:
        """One object, or None."""
        return await self._unless_absent("GET", _path(where.kind, where.namespace, where.name))

    async def metadata(self, where: Ref) -> dict[str, Any] | None:
        """An object's metadata alone, or None: of a Secret nothing else is ever asked for."""
        return await self._unless_absent("GET", _path(where.kind, where.namespace, where.name), accept=_METADATA_ONLY)

    async def apply(
        self, manifest: Object, subresource: str = "", *, manager: str = FIELD_MANAGER, force: bool = True
    ) -> dict[str, Any]:
        """Server-side apply, as the one field manager that the operator is; returns the object as it is now.

        Without `force` it is a conflict (409) where somebody else has set one of its fields to something else.
        """
        metadata = manifest["metadata"]
        path = _path(manifest["kind"], metadata.get("namespace", ""), metadata["name"], subresource)
        query = {"fieldManager": manager, "force": "true" if force else "false"}
        return await self._request("PATCH", path, query, body=manifest, content="application/apply-patch+yaml")

    async def patch(self, where: Ref, steps: Sequence[Object], *, dry_run: bool = False) -> dict[str, Any]:
        """A JSON patch; returns the object as it is now, or as it would be."""
        query = {"fieldManager": FIELD_MANAGER} | ({"dryRun": "All"} if dry_run else {})
        path = _path(where.kind, where.namespace, where.name)
        return await self._request("PATCH", path, query, body=steps, content="application/json-patch+json")

    async def delete(self, where: Ref, uid: str | None = None) -> bool:
        """Delete an object (only if it is still the one of that uid); its pods follow. False when it is not there."""
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        path = _path(where.kind, where.namespace, where.name)
        return await self._unless_absent("DELETE", path, body=options) is not None

    async def create(self, manifest: Object) -> dict[str, Any]:
        """Create an object."""
        path = _path(manifest["kind"], manifest["metadata"]["namespace"])
        return await self._request("POST", path, {"fieldManager": FIELD_MANAGER}, body=manifest)

    async def _unless_absent(
        self, method: str, path: str, *, body: Object | None = None, accept: str = "application/json"
    ) -> dict[str, Any] | None:
        try:
            return await self._request(method, path, {}, body=body, accept=accept)
        except ApiError as error:
            if error.status == 404 or (method == "DELETE" and error.status == 409):
                return None
            raise

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        *,
        body: Object | Sequence[Object] | None = None,
        content: str = "application/json",
        accept: str = "application/json",
    ) -> dict[str, Any]:
        if self._session is None:
            raise RuntimeError("Kube is a context manager: open it first")
        if time.monotonic() - self._asked > REFRESH_SECONDS:
            self._access, self._asked = self._find(), time.monotonic()
        url = f"{self._access.server.rstrip('/')}/{path}" + (f"?{urlencode(query)}" if query else "")
        headers = {**self._access.headers, "Accept": accept, "Content-Type": content, "User-Agent": FIELD_MANAGER}
        metrics.API_REQUESTS.labels(method).inc()
        try:
            async with self._session.request(
                method, url, headers=headers, data=None if body is None else json.dumps(body)
            ) as response:
                text = await response.text()
        except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError, OSError) as error:
            raise ApiError(0, "Unreachable", f"The API server cannot be reached: {error!r}") from error
        if response.status >= 400:
            raise _refusal(response.status, text)
        return json.loads(text)


def resource_of(kind: str) -> tuple[str, str, str]:
    """(group, version, plural) of a kind; the group is empty for Kubernetes' own first ones."""
    version, plural = _KINDS[kind]
    group, _, number = version.rpartition("/")
    return group, number, plural


def _path(kind: str, namespace: str, name: str = "", subresource: str = "") -> str:
    version, plural = _KINDS[kind]
    parts = ["apis" if "/" in version else "api", version]
    parts += ["namespaces", quote(namespace)] if namespace else []
    parts += [plural] + ([quote(name)] if name else []) + ([subresource] if subresource else [])
    return "/".join(parts)


def _refusal(status: int, text: str) -> ApiError:
    try:
        answer: Any = json.loads(text)
    except ValueError:
        return ApiError(status, "Unknown", f"The API server answered {status}: {text[:300]}")
    message, reason = str(answer.get("message", "")), str(answer.get("reason", ""))
    return ApiError(status, reason, f"The API server refuses it ({status} {reason}): {message}")
