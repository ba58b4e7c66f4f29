"""What a person decides where the registry has forgotten: what the ids of messages mean that are not in the table yet.

A sink waits for either (`k2.lake.schema_ids` says when), and goes on by itself with what was decided. As with every decision
who, when and why stand in the table, and each later audit tells it.
"""

from __future__ import annotations

from dataclasses import replace

from pyiceberg.table import Table

from k2.lake.kept_schemas import SCHEMAS, TopicSchemas, digest, kept_schemas
from k2.lake.offsets import OffsetMap, TopicOffsets, recorded_offsets
from k2.lake.proof.decisions import Decision, DecisionKind, Signature
from k2.lake.proof.reset import known_topic, record
from k2.lake.schema_ids import Registry
from k2.model.codec.meaning import meaning
from k2.model.codec.plan import writer_plan
from k2.model.errors import UserError
from k2.model.topics import TopicName, subject_of


def standing(table: Table, topic: str, registry: Registry) -> dict[int, str]:
    """What the registry says now of each id that the table keeps of a topic, in words.

    Raises:
        UserError: the table records nothing of the topic.
        RefusedError: the table was rolled back.
        WorldError: the registry cannot be reached.
    """
    _, _, kept = _known(table, topic)
    undecided = replace(kept, settled={})
    found: dict[int, str] = {}
    for schema_id in kept.schemas:
        now = registry.now(schema_id)
        if not undecided.minds(schema_id, now):
            state = "as the registry has it"
        elif now is None:
            state = "the registry does not know it any more"
        elif registry.is_of(schema_id, subject_of(topic)):
            state = "the registry has another schema of this topic under it"
        else:
            state = "the registry has another subject's schema under it"
        found[schema_id] = (
            state if undecided.minds(schema_id, now) is kept.minds(schema_id, now) else f"{state} (decided)"
        )
    return found


def keep_schemas(table: Table, topic: str, registry: Registry, signed: Signature) -> tuple[int, ...]:
    """Kept ids go on meaning what they always meant, whatever the registry says of them now, which is taken as its state.

    Messages of other ids that it does not know become dead letters again, and those that it knows are read.

    Returns:
        The ids of which the registry says something else, or nothing.

    Raises:
        UserError: the table records nothing of the topic, or the registry has all that is kept.
        RefusedError: the table was rolled back.
        WorldError: the registry cannot be reached, or somebody has committed to the table meanwhile.
    """
    offsets, held, kept = _known(table, topic)
    says = {schema_id: registry.now(schema_id) for schema_id in kept.schemas}
    other = {schema_id: digest(now) for schema_id, now in says.items() if kept.minds(schema_id, now)}
    if not other:
        raise UserError(
            f"The registry has every schema that {'.'.join(table.name())} keeps of {topic}, or it was decided already",
            remedy="There is nothing to do",
        )
    decided = replace(kept, settled={**kept.settled, **other})
    decision = Decision(
        DecisionKind.KEEP_SCHEMAS,
        signed,
        table.metadata.current_snapshot_id,
        topic,
        held.topic_id,
        schema_ids=tuple(other),
    )
    record(table, offsets, decision, _property(table, held, decided, offsets))
    return tuple(sorted(other))


def take_schema(table: Table, topic: str, schema_id: int, registry: Registry, signed: Signature) -> None:
    """From the recorded offsets on an id means what the registry says of it now; what is in the table stays as it was read.

    Raises:
        UserError: the table keeps no such id of the topic, or the registry has nothing else, or nothing fit, under it.
        RefusedError: the table was rolled back.
        WorldError: the registry cannot be reached, or somebody has committed to the table meanwhile.
    """
    offsets, held, kept = _known(table, topic)
    if schema_id not in kept.schemas:
        raise UserError(
            f"{'.'.join(table.name())} keeps no schema of {topic} under that id",
            found=schema_id,
            expected="one of " + (", ".join(map(str, sorted(kept.schemas))) or "(it keeps none)"),
        )
    now = registry.now(schema_id)
    if now is None or not replace(kept, settled={}).minds(schema_id, now):
        raise UserError(
            f"The registry has no other schema under id {schema_id} than {'.'.join(table.name())} keeps",
            found="nothing" if now is None else "the same",
            remedy="There is nothing to take",
        )
    refusal = writer_plan(now, TopicName.parse(topic).data_type).refusal
    if refusal is not None:
        raise UserError(f"No message of {topic} can mean what the registry has under id {schema_id}", found=refusal)
    settled = {each: state for each, state in kept.settled.items() if each != schema_id}
    decided = TopicSchemas({**kept.schemas, schema_id: meaning(now)}, settled)
    decision = Decision(
        DecisionKind.TAKE_SCHEMA,
        signed,
        table.metadata.current_snapshot_id,
        topic,
        held.topic_id,
        schema_ids=(schema_id,),
    )
    record(table, offsets, decision, _property(table, held, decided, offsets))


def _known(table: Table, topic: str) -> tuple[OffsetMap, TopicOffsets, TopicSchemas]:
    """What the table records, of the topic too, and the schemas that it keeps of it."""
    offsets = recorded_offsets(table)
    held = known_topic(table, offsets, topic)
    return offsets, held, kept_schemas(table.metadata).of(held.topic_id)


def _property(table: Table, held: TopicOffsets, decided: TopicSchemas, offsets: OffsetMap) -> dict[str, str]:
    return {SCHEMAS: kept_schemas(table.metadata).having(held.topic_id, decided, offsets).to_json()}
