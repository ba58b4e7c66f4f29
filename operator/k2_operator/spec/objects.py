"""What K2 reads off a Kubernetes object: its reference, what of it matters, and whether it is what was asked for. Pure."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Object = Mapping[str, Any]


class Ref(NamedTuple):
    """An object by kind, namespace and name."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


_CONTROLLERS_OWN = ("resourceVersion", "generation", "managedFields", "selfLink")
_NOISE = ("kubectl.kubernetes.io/last-applied-configuration", "deployment.kubernetes.io/revision")
_WORD_CHARACTERS = 64


def ref(obj: Object) -> Ref:
    """The reference of an object or manifest."""
    metadata = obj["metadata"]
    return Ref(obj["kind"], metadata.get("namespace", ""), metadata["name"])


def trimmed(obj: Object) -> dict[str, Any]:
    """An object without the bulk that nobody here reads, its words shared with those of all others."""
    metadata = {name: value for name, value in obj["metadata"].items() if name not in ("managedFields", "selfLink")}
    annotations = metadata.get("annotations")
    if annotations:
        metadata.pop("annotations")
        if kept := {name: value for name, value in annotations.items() if name not in _NOISE}:
            metadata["annotations"] = kept
    return _shared({**obj, "metadata": metadata})


def _shared(value: Any) -> Any:
    """The same with each name and short text once in the process: JSON brings a Deployment's anew with each Deployment.

    Half of what the objects of hundreds of feeds take are the same few words.
    """
    if isinstance(value, Mapping):
        return {sys.intern(name): _shared(each) for name, each in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, list):
        return [_shared(each) for each in value]  # pyright: ignore[reportUnknownVariableType]
    if type(value) is str and len(value) <= _WORD_CHARACTERS:
        return sys.intern(value)
    return value


def version(obj: Object) -> int:
    """The resource version as a number (which it is in every API server there is); -1 where it is none."""
    text = str(obj["metadata"].get("resourceVersion", ""))
    return int(text) if text.isdigit() else -1


def digest(obj: Object) -> str:
    """A hash over all that somebody may have asked for; status and what the server counts are left out."""
    metadata = {name: value for name, value in obj["metadata"].items() if name not in _CONTROLLERS_OWN}
    rest = {name: value for name, value in obj.items() if name not in ("metadata", "status")}
    return hashlib.sha256(json.dumps([metadata, rest], sort_keys=True, default=str).encode()).hexdigest()


def covers(live: Any, wanted: Any) -> bool:
    """Whether everything in `wanted` stands in `live` as well (which has defaults besides).

    Lists of objects with names are compared by name, other lists item by item.
    """
    if isinstance(wanted, Mapping):
        if not isinstance(live, Mapping):
            return not wanted and live is None
        return all(covers(live.get(name), value) for name, value in wanted.items())
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        if not isinstance(live, Sequence) or isinstance(live, str):
            return not wanted and live is None
        return len(live) == len(wanted) and all(covers(a, b) for a, b in zip(live, wanted, strict=True))
    return bool(live == wanted)


def owns(obj: Object, manager: str, *path: str) -> bool:
    """Whether a field manager has applied a field. Needs the object as the API server gives it, with its `managedFields`."""
    for entry in obj["metadata"].get("managedFields") or ():
        if entry.get("manager") == manager and entry.get("operation") == "Apply" and not entry.get("subresource"):
            found: Any = entry.get("fieldsV1") or {}
            for name in path:
                found = found.get(f"f:{name}") if isinstance(found, Mapping) else None
            if found is not None:
                return True
    return False


def owner_uids(obj: Object) -> set[str]:
    """The uids of an object's owners."""
    return {each["uid"] for each in obj["metadata"].get("ownerReferences", ())}


def labels_of(obj: Object) -> Mapping[str, str]:
    """An object's labels."""
    return obj["metadata"].get("labels") or {}


def generation_of(obj: Object) -> int:
    """How often an object's spec was changed, by the API server's count."""
    return int(obj["metadata"].get("generation", 0))


def condition(obj: Object, kind: str) -> Object | None:
    """The condition of that type in an object's status."""
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return next((each for each in conditions if each.get("type") == kind), None)
