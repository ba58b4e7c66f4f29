"""`UpToDate`: whether all that runs of a feed was built from its spec and the platform's settings of now. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from k2_operator.report.pods import PodTrouble
from k2_operator.report.status import Finding, no, yes
from k2_operator.spec.conditions import Reason
from k2_operator.spec.objects import Object, condition

UP_TO_DATE = yes(Reason.AS_CONFIGURED, "What runs was built from the platform's present settings.")


def up_to_date(deployments: Sequence[Object], troubles: Mapping[str, PodTrouble]) -> Finding:
    """What the Deployments say of themselves. Sentences without numbers of pods: those change with every pod.

    Args:
        deployments: of a feed, those that are there.
        troubles: of their pods, by the Deployment's name.
    """
    under_way = [each for each in deployments if is_under_way(each)]
    for each in under_way:
        name = _name(each)
        if (found := troubles.get(name)) is not None:
            return no(found.reason, f"The new pods of Deployment {name} do not come up: {found.said}.")
    if late := [_name(each) for each in under_way if _reason(each) == "ProgressDeadlineExceeded"]:
        return no(
            Reason.PROGRESS_DEADLINE_EXCEEDED,
            f"The new pods of Deployment {', '.join(late)} have not become ready for as long as a rollout may take; "
            "`kubectl describe pod -l app.kubernetes.io/instance=<the Deployment>` tells more.",
        )
    if under_way:
        return no(Reason.ROLLING_OUT, f"Pods of Deployment {', '.join(map(_name, under_way))} are being replaced.")
    return UP_TO_DATE


def stuck(troubles: Mapping[str, PodTrouble]) -> Finding | None:
    """What is wrong with pods that their feed can do without, for as long as it can; None where there are none."""
    for name, found in sorted(troubles.items()):
        return yes(found.reason, f"Pods of Deployment {name} do not come up, and others do their work: {found.said}.")
    return None


def is_under_way(deployment: Object) -> bool:
    """Whether pods of before still run, or new ones are yet to be made. More pods of the same kind are no rollout."""
    wanted, found = int(deployment["spec"].get("replicas", 1)), deployment.get("status") or {}
    if wanted == 0:
        return False
    if int(found.get("observedGeneration") or 0) < int(deployment["metadata"].get("generation") or 0):
        return True
    new = int(found.get("updatedReplicas") or 0)
    if int(found.get("replicas") or 0) > new:
        return True
    reason = _reason(deployment)
    return reason == "ProgressDeadlineExceeded" or (new < wanted and reason != "NewReplicaSetAvailable")


def _reason(deployment: Object) -> str:
    return str((condition(deployment, "Progressing") or {}).get("reason", ""))


def _name(obj: Object) -> str:
    return str(obj["metadata"]["name"])
