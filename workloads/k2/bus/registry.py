"""The Schema Registry (Confluent's API): registering our schemas, and looking up those that messages name.

A subject's compatibility is BACKWARD: a reader with the new schema reads what was written with the old one.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, cast

import httpx2
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from k2.model.errors import CredentialsError, UserError, WorldError
from k2.model.events import Decimals, avro_schema, schema_decimals
from k2.model.topics import DataType, subject_of
from k2.obs.renewed import ClientSettings, Renewed, as_now

COMPATIBILITY = "BACKWARD"
REQUEST_SECONDS = 10.0
REQUEST_RETRIES = 2
LOOK_SECONDS = 2.0
"""For who only looks whether an id is still what it was: it goes on without an answer."""

_NO_DECIMALS: Mapping[str, Decimals] = MappingProxyType({})
_NOT_FOUND, _CONFLICT, _UNPROCESSABLE = 404, 409, 422


def ensure_subjects(
    registry_config: Mapping[str, str],
    topics: Mapping[str, DataType],
    decimals: Mapping[str, Decimals] = _NO_DECIMALS,
) -> dict[str, int]:
    """Register K2's schema of each topic's data type under the topic's subject. Idempotent.

    Args:
        registry_config: see `Schemas`.
        topics: what each topic holds.
        decimals: of the topics whose events go into tables with other than standard ones.

    Returns:
        The schema id of each topic, for the header of its messages.

    Raises:
        UserError: the subject holds a schema that ours cannot replace; it stays as it is.
        WorldError: the registry cannot be reached or did not answer in time.
    """
    schemas = Schemas(registry_config)
    return {
        topic: schemas.register(subject_of(topic), _schema(data_type, decimals.get(topic, Decimals.STANDARD)))
        for topic, data_type in topics.items()
    }


def topic_decimals(
    registry_config: Mapping[str, str], topic: str, data_type: DataType, wanted: Decimals | None = None
) -> Decimals:
    """Which decimals are sent into a topic: those of its newest schema, or `wanted`, if a feed has registered them for it.

    Raises:
        UserError: the topic has no schema with the decimals that are wanted.
        WorldError: the registry cannot be reached.
    """
    schemas, subject = Schemas(registry_config), subject_of(topic)
    latest = schemas.latest(subject)
    newest = Decimals.STANDARD if latest is None else _decimals_of(latest[1])
    if wanted is None or wanted is newest or schemas.holds(subject, _schema(data_type, wanted)):
        return wanted or newest
    raise UserError(
        f"Topic {topic} has no schema with such decimals",
        found=str(wanted),
        expected=str(newest),
        remedy=f"Let the feed's stream name an IcebergTable with spec.decimals: {wanted}, which registers it",
    )


def ensure_further(registry_config: Mapping[str, str], schemas: Mapping[str, Mapping[str, Any]]) -> None:
    """Register under each topic's subject, after K2's own schema, one with the further columns of its table. Idempotent.

    K2's producers go on with their own; whoever takes the subject's newest sees the fields that may be sent. To be called
    when the table has the columns, or a reader of the topic pauses until it has.

    Args:
        registry_config: see `Schemas`.
        schemas: of each topic (`k2.model.further.with_further`).

    Raises:
        UserError: the subject holds a schema that this one cannot replace; it stays as it is.
        WorldError: the registry cannot be reached or did not answer in time.
    """
    registry = Schemas(registry_config)
    for topic, schema in schemas.items():
        registry.register(subject_of(topic), json.dumps(schema))


def _decimals_of(text: str) -> Decimals:
    try:
        return schema_decimals(json.loads(text))
    except ValueError:  # no Avro: whoever registers or reads says so
        return Decimals.STANDARD


def _schema(data_type: DataType, decimals: Decimals) -> str:
    return json.dumps(avro_schema(data_type, decimals))


class Schemas:
    """Schemas by id and by subject. What was found is kept for ever: an id never changes its meaning.

    Args:
        settings: `url`, and `basic.auth.user.info` where the registry asks for it.
        seconds: how long a request may wait for an answer.
        retries: how often one that had none is sent again.
    """

    def __init__(
        self, settings: ClientSettings, *, seconds: float = REQUEST_SECONDS, retries: int = REQUEST_RETRIES
    ) -> None:
        # The client's own defaults wait without end; callers retry with backoff, so these stay short.
        limits: dict[str, Any] = {"timeout": seconds, "max.retries": retries}
        self._clients = Renewed(
            settings,
            lambda now: SchemaRegistryClient({**now, **limits}),
            "registry",
            close=SchemaRegistryClient.close,
        )
        self._url = as_now(settings).get("url", "")
        self._texts: dict[int, str] = {}

    def schema(self, schema_id: int) -> str | None:
        """The Avro schema (JSON) of that id, or None when the registry does not know it.

        Types that it takes from other subjects are written into it where they are first used.

        Unknown ids are not remembered: the registry may learn of one a moment later.

        Raises:
            WorldError: the registry cannot be reached.
        """
        known = self._texts.get(schema_id)
        if known is not None:
            return known
        with self._translated(f"schema id {schema_id}"):
            try:
                found = self._client.get_schema(schema_id)
            except SchemaRegistryError as error:
                if error.http_status_code == _NOT_FOUND:
                    return None
                raise
            text = found.schema_str if not found.references else self._whole(found)
        if text is None:
            return None
        self._texts[schema_id] = text
        return text

    def now(self, schema_id: int) -> str | None:
        """What `schema` says, asked anew: a registry that was restored, or kept in memory, may have forgotten the id or given it away.

        Raises:
            WorldError: the registry cannot be reached.
        """
        self._client.clear_caches()
        self._texts.pop(schema_id, None)
        return self.schema(schema_id)

    def is_of(self, schema_id: int, subject: str) -> bool:
        """Whether the schema of that id is one of a subject's versions now.

        Raises:
            WorldError: the registry cannot be reached.
        """
        with self._translated(f"schema id {schema_id}"):
            try:
                return any(each.subject == subject for each in self._client.get_schema_versions(schema_id))
            except SchemaRegistryError as error:
                if error.http_status_code == _NOT_FOUND:
                    return False
                raise

    def register(self, subject: str, schema: str) -> int:
        """Register an Avro schema (JSON) under a subject with BACKWARD compatibility; the same one gives the same id.

        Raises:
            UserError: it is not compatible with what the subject holds, or no Avro schema at all.
            WorldError: the registry cannot be reached.
        """
        offered = Schema(schema, "AVRO")
        with self._translated(f"subject {subject}"):
            self._set_backward(subject)
            try:
                schema_id = self._client.register_schema(subject, offered)
            except SchemaRegistryError as error:
                if error.http_status_code == _CONFLICT:
                    # Another process may have registered the very same at this moment.
                    known = self._id_of(subject, offered)
                    if known is None:
                        raise self._incompatible(subject, offered, error) from error
                    return known
                if error.http_status_code == _UNPROCESSABLE:
                    raise UserError(
                        f"The schema offered for subject {subject} is no Avro schema", found=str(error.error_message)
                    ) from error
                raise
        self._texts[schema_id] = schema
        return schema_id

    def latest(self, subject: str) -> tuple[int, str] | None:
        """Id and text of a subject's newest schema, or None when there is no such subject."""
        with self._translated(f"subject {subject}"):
            try:
                found = self._client.get_latest_version(subject)
            except SchemaRegistryError as error:
                if error.http_status_code == _NOT_FOUND:
                    return None
                raise
        if found.schema_id is None or found.schema.schema_str is None:
            return None
        return found.schema_id, found.schema.schema_str

    def holds(self, subject: str, schema: str) -> bool:
        """Whether just this Avro schema (JSON) is registered under a subject.

        Raises:
            WorldError: the registry cannot be reached.
        """
        with self._translated(f"subject {subject}"):
            return self._id_of(subject, Schema(schema, "AVRO")) is not None

    def close(self) -> None:
        """Close the connections."""
        self._clients.end()

    @property
    def _client(self) -> SchemaRegistryClient:
        return self._clients.now()

    def _whole(self, schema: Schema) -> str | None:
        """A schema's text with the definitions that its references lead to."""
        if schema.schema_str is None:
            return None
        return json.dumps(with_definitions(json.loads(schema.schema_str), self._definitions(schema)))

    def _definitions(self, schema: Schema) -> dict[str, Any]:
        """Full name → definition of every type that a schema takes from elsewhere, and that those take in turn."""
        found: dict[str, Any] = {}
        for reference in schema.references or ():
            referred = self._client.get_version(reference.subject or "", reference.version or -1).schema
            found |= self._definitions(referred)
            found[reference.name or ""] = json.loads(referred.schema_str or "null")
        return found

    def _set_backward(self, subject: str) -> None:
        if self._is_backward(subject):
            return
        try:
            self._client.set_compatibility(subject, COMPATIBILITY)
        except SchemaRegistryError as error:
            # Another process may have set it between the two calls.
            if error.http_status_code != _CONFLICT or not self._is_backward(subject):
                raise

    def _is_backward(self, subject: str) -> bool:
        try:
            return self._client.get_compatibility(subject) == COMPATIBILITY
        except SchemaRegistryError as error:
            if error.http_status_code != _NOT_FOUND:
                raise
            return False

    def _id_of(self, subject: str, offered: Schema) -> int | None:
        """The id under which a subject holds just this schema."""
        try:
            return self._client.lookup_schema(subject, offered).schema_id
        except SchemaRegistryError as error:
            if error.http_status_code != _NOT_FOUND:
                raise
            return None

    def _incompatible(self, subject: str, offered: Schema, error: SchemaRegistryError) -> UserError:
        return UserError(
            f"The schema for subject {subject} is not backward compatible with the one that is registered, which stays",
            found=self._differences(subject, offered) or str(error.error_message),
            expected="new fields with a default, no changed types",
            remedy="Change the schema back, or let a feed of another exchange or data type write to a new topic",
        )

    def _differences(self, subject: str, offered: Schema) -> str:
        """What the registry says differs, in its words; empty when it does not tell."""
        path = f"compatibility/subjects/{subject}/versions/latest?verbose=true"
        # The public method answers with a bool and drops the messages.
        rest: Any = getattr(self._client, "_rest_client")  # noqa: B009
        try:
            answer: Any = rest.post(path, body=offered.to_dict())
        except (SchemaRegistryError, httpx2.HTTPError):
            return ""
        messages = answer.get("messages") if isinstance(answer, dict) else None
        return "; ".join(str(message) for message in messages or ())

    @contextmanager
    def _translated(self, what: str) -> Generator[None]:
        try:
            yield
        except httpx2.HTTPError as error:
            raise WorldError(f"The Schema Registry at {self._url} cannot be reached ({what}): {error!r}") from error
        except SchemaRegistryError as error:
            if error.http_status_code in {401, 403}:
                raise CredentialsError(
                    f"The Schema Registry at {self._url} refuses access ({what}): {error.error_message}. Look at its credentials "
                    "(K2_REGISTRY_SECRET_DIR, or K2_REGISTRY_USERNAME and K2_REGISTRY_PASSWORD): may they read and register?"
                ) from error
            raise WorldError(f"The Schema Registry at {self._url} failed ({what}): {error}") from error


def with_definitions(avro: Any, definitions: Mapping[str, Any]) -> Any:
    """An Avro schema that needs no other: each name that stands for one of the definitions becomes it, where it is first used.

    Args:
        avro: the schema as parsed JSON; it is left as it is.
        definitions: full name → named type.
    """
    return _defined(avro, dict(definitions), "")


def _defined(avro: Any, left: dict[str, Any], namespace: str) -> Any:
    if isinstance(avro, str):
        full = avro if avro in left else f"{namespace}.{avro}"
        if full not in left:
            return avro
        # Its own namespace is said, or it would take on that of the place it is put.
        return _defined({"namespace": full.rpartition(".")[0]} | left.pop(full), left, namespace)
    if isinstance(avro, list):
        return [_defined(branch, left, namespace) for branch in cast("list[Any]", avro)]
    if not isinstance(avro, dict):
        return avro
    node = cast("dict[str, Any]", avro)
    own = str(node.get("namespace", namespace))
    changed = {name: _defined(node[name], left, own) for name in ("type", "items", "values") if name in node}
    if "fields" in node:
        changed["fields"] = [field | {"type": _defined(field["type"], left, own)} for field in node["fields"]]
    return node | changed
