"""The plan of a grid on the command line: `elephant run alignment NAME=VALUE ... --plan`."""

from typing import Any

import typer

from curation.alignment import Plan
from curation.cli_parts import say, say_rows


def say_plan(made: Plan, as_json: bool) -> None:
    """Print a plan: its jobs with what each will take, the whole, and what is to be known of it."""
    rows = plan_rows(made)
    if as_json:
        whole = {"jobs": rows, "seconds": made.seconds, "held_out": len(made.held_out)}
        say("", {**whole, "notes": list(made.notes), "warnings": list(made.warnings)}, as_json)
        return
    shown = [{**one, "time": _time(one["seconds"]), "memory": _memory(one["bytes"])} for one in rows]
    say_rows(shown, ("job", "kind", "time", "memory", "after"), False, none="no jobs")
    typer.echo(f"\n{len(rows):,} jobs, {_time(made.seconds)} in all; nothing was started")
    for note in made.notes:
        typer.echo(f"- {note}")
    for warning in made.warnings:
        typer.echo(f"! {warning}")


def plan_rows(made: Plan) -> list[dict[str, Any]]:
    """A row for each job of a plan: what it makes, its kind, seconds, bytes, and what it comes after."""
    return [
        {
            "job": one.job.name, "kind": one.job.kind, "seconds": one.seconds, "bytes": one.bytes,
            "after": ", ".join(one.job.after), "cell": one.job.cell,
        }
        for one in made.jobs
    ]  # fmt: skip


def _time(seconds: float | None) -> str:
    """About so long."""
    if seconds is None:
        return "unknown"
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _memory(size: int | None) -> str:
    return "unknown" if size is None else f"{size / 1e9:.1f} GB"
