"""`trainyard sim`: run the protocol under many schedules, or one of them with its trace."""

from __future__ import annotations

import json
import os
from contextlib import nullcontext
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from trainyard_simulation.campaign import Report, run_campaign, run_search
from trainyard_simulation.mutations import MUTATIONS
from trainyard_simulation.world import run_seed

app = typer.Typer(add_completion=False)


@app.command()
def sim(
    seeds: Annotated[str, typer.Option(help="Which seeds to run: A..B, both included.")] = "1..2000",
    seed: Annotated[int | None, typer.Option(min=0, help="Run only this seed.")] = None,
    trace: Annotated[bool, typer.Option("--trace", help="With --seed: show every step.")] = False,
    jobs: Annotated[int, typer.Option(min=0, help="Processes; 0: one per core.")] = 0,
    exhaustive: Annotated[
        int | None,
        typer.Option(min=1, max=3, help="With --seed: one run, and every placement of up to so many faults."),
    ] = None,
    mutation: Annotated[
        str | None, typer.Option(help=f"Tear a hole into the protocol first: {', '.join(MUTATIONS)}.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Answer with one JSON object.")] = False,
) -> None:
    """Run the dispatcher's and the worker's own code under a simulated clock, broker and ClearML.

    Each seed is one schedule with its crashes, pauses, lost answers and duplicates; the same seed is always the same
    schedule. Exits with 1 if a promise was broken in any of them.
    """
    if mutation is not None and mutation not in MUTATIONS:
        raise typer.BadParameter(f"'{mutation}' is none of {', '.join(MUTATIONS)}", param_hint="--mutation")
    jobs = jobs or os.cpu_count() or 1
    if exhaustive is not None:
        raise typer.Exit(_all(1 if seed is None else seed, exhaustive, jobs, mutation, as_json))
    if seed is not None:
        raise typer.Exit(_one(seed, trace, mutation, as_json))
    if trace:
        raise typer.BadParameter("shows one seed; name it with --seed", param_hint="--trace")
    first, last = _range_of(seeds)
    raise typer.Exit(_many(first, last, jobs, mutation, as_json))


def _range_of(text: str) -> tuple[int, int]:
    first, dots, last = text.partition("..")
    if not (dots and first.isascii() and first.isdigit() and last.isascii() and last.isdigit()):
        raise typer.BadParameter(f"'{text}' is not of the form A..B, such as 1..20000", param_hint="--seeds")
    if int(first) > int(last):
        raise typer.BadParameter(f"'{text}' ends before it begins", param_hint="--seeds")
    return int(first), int(last)


def _one(seed: int, trace: bool, mutation: str | None, as_json: bool) -> int:
    with MUTATIONS[mutation]() if mutation is not None else nullcontext():
        result = run_seed(seed, trace=trace)
    violations = [str(v) for v in result.violations]
    if as_json:
        document = {
            "seed": seed,
            "violations": violations,
            "steps": result.steps,
            "virtual_s": round(result.virtual_s, 3),
            "digest": result.digest,
            "coverage": dict(sorted(result.coverage.items())),
        }
        typer.echo(json.dumps(document | ({"trace": list(result.trace)} if trace else {})))
    else:
        for line in result.trace:
            typer.echo(line)
        for message in violations:
            typer.echo(f"BROKEN  {message}")
        state = "broken" if violations else "all promises kept"
        typer.echo(f"seed {seed}: {state}; {result.steps} steps, {result.virtual_s:.0f} s simulated, {result.digest}")
    return 1 if violations else 0


def _all(seed: int, depth: int, jobs: int, mutation: str | None, as_json: bool) -> int:
    report = run_search(seed, depth, jobs=jobs, mutation=mutation)
    if as_json:
        typer.echo(json.dumps({"schedules": report.schedules, "broken": list(report.broken)}))
    else:
        for sentence in report.broken:
            typer.echo(f"BROKEN  {sentence}")
        typer.echo(
            f"{report.schedules:,} schedules: every placement of up to {depth} faults in the world of seed {seed}"
        )
    return 1 if report.broken else 0


def _many(first: int, last: int, jobs: int, mutation: str | None, as_json: bool) -> int:
    console = Console(stderr=True)
    columns = (TextColumn("seeds"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=as_json or not console.is_terminal) as progress:
        task = progress.add_task("seeds", total=last - first + 1)
        report = run_campaign(
            first,
            last,
            jobs=jobs,
            mutation=mutation,
            on_progress=lambda so_far: progress.update(task, completed=so_far.seeds),
        )
    if as_json:
        typer.echo(json.dumps(report.to_json()))
    else:
        _show(report, mutation)
    return 1 if report.failed_seeds else 0


def _show(report: Report, mutation: str | None) -> None:
    for failure in report.failures:
        typer.echo(f"seed {failure.seed}: BROKEN  {'; '.join(failure.messages[:3])}")
    typer.echo(
        f"{report.seeds:,} seeds, {report.failed_seeds:,} broken; {report.steps:,} steps in {report.seconds:.1f} s, "
        f"{report.seeds_per_s:.0f} seeds/s; {len(report.coverage)} kinds of faults and windows met"
    )
    if report.failures:
        same = f" --mutation {mutation}" if mutation else ""
        typer.echo(f"See one: trainyard sim --seed {report.failures[0].seed} --trace{same}")
