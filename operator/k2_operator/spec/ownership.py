"""Whose an object is, and what others have added to one of ours: read off labels, owners and `managedFields`. Pure.

`managedFields` name who has set which field. What nobody has set there is the server's own: a default, or a webhook's, which
writes under no name. So neither is ever taken for an addition.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from k2_operator.spec import labels
from k2_operator.spec.objects import Object, labels_of
from k2_operator.spec.resources import GROUP, KINDS

FIELD_MANAGER = "k2-operator"
REPLICAS_MANAGER = "k2-operator-replicas"
"""Holds the number of pods for a moment, from the operator's last say until an autoscaler's first."""

_OURS = (FIELD_MANAGER, REPLICAS_MANAGER)
_NOT_ASKED_FOR = ("f:apiVersion", "f:kind", "f:metadata", "f:status")
_KEY_DEFAULTS = {"protocol": "TCP"}
"""A list's key that may be left out, and is filled in before the API server looks for it."""
_ABSENT = object()

Step = str | int


@dataclass(frozen=True, slots=True)
class Addition:
    """A field of an object of ours that another manager has set and that nobody here asked for.

    `pointer` is its place in that very object, `text` the same as a person writes it: `spec.template.spec.containers[sink].env[X]`.
    """

    pointer: tuple[Step, ...]
    text: str
    manager: str

    @property
    def mark(self) -> str:
        """A short name of the place, by which it is known again."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:10]


def is_ours(obj: Object) -> bool:
    """Whether an object is one that K2 has made: by its label, its owner (of any uid: a restore changes them), or its manager.

    Its metadata is enough.
    """
    if labels_of(obj).get(labels.MANAGED_BY) == labels.OPERATOR:
        return True
    if any(_is_resource_of_ours(each) for each in obj["metadata"].get("ownerReferences") or ()):
        return True
    return any(entry.get("manager") == FIELD_MANAGER for entry in _managed(obj))


def holder(obj: Object) -> str:
    """Whose an object is that is not ours, in words: its controller, what manages it, or who has made it."""
    owners = obj["metadata"].get("ownerReferences") or ()
    for each in sorted(owners, key=lambda owner: not owner.get("controller")):
        return f"it belongs to {each['kind']} {each['name']}"
    if by := labels_of(obj).get(labels.MANAGED_BY):
        return f"it is managed by {by}"
    entries = sorted(_managed(obj), key=lambda entry: str(entry.get("time", "")))
    managers = dict.fromkeys(str(entry["manager"]) for entry in entries if entry.get("manager"))
    return f"it was made by {next(iter(managers))}" if managers else "nobody says whose it is"


def others(obj: Object) -> list[dict[str, Any]]:
    """The `managedFields` of others over what an object asks for, without metadata and status: mostly none at all."""
    kept: list[dict[str, Any]] = []
    for entry in _managed(obj):
        if entry.get("manager") in _OURS or entry.get("subresource") == "status":
            continue
        fields: Mapping[str, Any] = entry.get("fieldsV1") or {}
        if found := {name: below for name, below in fields.items() if name not in _NOT_ASKED_FOR}:
            kept.append({"manager": entry.get("manager", ""), "fieldsV1": found})
    return kept


def additions(live: Object, manifest: Object) -> list[Addition]:
    """What others have added to an object beyond its manifest; each once, whoever else has set it too.

    Left alone are labels and annotations, also those of pod templates (`restartedAt` is one), and the number of pods where
    the manifest leaves it to an autoscaler.

    Args:
        live: the object with its `managedFields`, or with those that `others` keeps.
        manifest: what was asked for.
    """
    found: dict[tuple[Step, ...], Addition] = {}
    for entry in others(live):
        for pointer, text in _beyond(entry["fieldsV1"], live, manifest, (), ""):
            found.setdefault(pointer, Addition(pointer, text, str(entry["manager"])))
    return list(found.values())


def removal(live: Object, unwanted: Sequence[Addition]) -> list[dict[str, Any]]:
    """A JSON patch that takes additions off an object as it is now, and marks them: one that comes back is known again."""
    metadata = live["metadata"]
    marks = ",".join(sorted({*removed_before(live), *(each.mark for each in unwanted)}))
    annotations = {**(metadata.get("annotations") or {}), labels.REMOVED: marks}
    # From the end of a list to its beginning, so that the places of the others hold.
    places = sorted((each.pointer for each in unwanted), reverse=True)
    return [
        # Places in lists are those of this version alone; another one is a conflict.
        {"op": "replace", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]},
        *({"op": "remove", "path": _pointer(place)} for place in places),
        {"op": "add", "path": "/metadata/annotations", "value": annotations},
    ]


def removed_before(obj: Object) -> frozenset[str]:
    """The marks of what was taken off an object once."""
    text = str((obj["metadata"].get("annotations") or {}).get(labels.REMOVED, ""))
    return frozenset(each for each in text.split(",") if each)


def told(found: Iterable[Addition]) -> str:
    """Additions in words, by who has made them."""
    by: dict[str, list[str]] = {}
    for each in found:
        by.setdefault(each.manager, []).append(each.text)
    return "; ".join(f"{', '.join(sorted(texts))} by {manager}" for manager, texts in sorted(by.items()))


def _managed(obj: Object) -> list[Mapping[str, Any]]:
    return [entry for entry in obj["metadata"].get("managedFields") or () if isinstance(entry, Mapping)]


def _is_resource_of_ours(reference: Mapping[str, Any]) -> bool:
    return reference.get("kind") in KINDS and str(reference.get("apiVersion", "")).partition("/")[0] == GROUP


def _beyond(
    fields: Mapping[str, Any], live: Any, wanted: Any, at: tuple[Step, ...], text: str
) -> Iterator[tuple[tuple[Step, ...], str]]:
    """Places of fields that are there and not wanted; of a whole branch that is not, its root alone."""
    for key, below in fields.items():
        step = _step(live, key)
        if step is None:
            continue  # the item itself (".", of a list or a map), or a field that is there no more
        place, name = (*at, step), _written(text, key)
        if _is_left_alone(place):
            continue
        mine = _step(wanted, key)
        if mine is None:
            yield place, name
        elif below:
            yield from _beyond(below, live[step], wanted[mine], place, name)


def _is_left_alone(place: tuple[Step, ...]) -> bool:
    return place[0] == "spec" and (place[-1] == "metadata" or place == ("spec", "replicas"))


def _step(node: Any, key: str) -> Step | None:
    """Where a key of `fieldsV1` leads to from a node: a name, a place in a list, or nowhere."""
    kind, _, rest = key.partition(":")
    if kind == "f":
        return rest if isinstance(node, Mapping) and rest in node else None
    if not rest or not isinstance(node, Sequence) or isinstance(node, str):
        return None
    if kind == "i":
        return int(rest) if int(rest) < len(node) else None
    value = json.loads(rest)
    for place, item in enumerate(node):
        if item == value if kind == "v" else _has_key(item, value):
            return place
    return None


def _has_key(item: Any, key: Mapping[str, Any]) -> bool:
    return isinstance(item, Mapping) and all(
        item.get(name, _KEY_DEFAULTS.get(name, _ABSENT)) == value for name, value in key.items()
    )


def _written(text: str, key: str) -> str:
    kind, _, rest = key.partition(":")
    if kind == "f":
        return f"{text}[{rest}]" if "." in rest else f"{text}.{rest}" if text else rest
    if kind != "k":
        return f"{text}[{rest}]"
    values = json.loads(rest)
    return f"{text}[{values['name'] if 'name' in values else '/'.join(map(str, values.values()))}]"


def _pointer(place: tuple[Step, ...]) -> str:
    return "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in place)
