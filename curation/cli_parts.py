"""What the commands share: the workspace they open, how they say what they did, a progress bar on a terminal."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from curation.workspace import Workspace

Folder = Annotated[Path, typer.Option("--workspace", envvar="ELEPHANT_WORKSPACE", help="The workspace's folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of words.")]
HERE = Path("workspace")


@contextmanager
def opening(folder: Path) -> Iterator[Workspace]:
    """The workspace, let go of afterwards."""
    opened = Workspace(folder)
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def bar(words: str) -> Iterator[Callable[[float, str], None]]:
    """A progress bar on a terminal, nothing in a pipe."""
    if not sys.stderr.isatty():
        yield lambda share, message: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[message]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(words, total=1.0, message="")
        yield lambda share, message: bar.update(task, completed=share, message=message)


def waiting(run: Any, words: str) -> None:
    """Wait for a run to end. Raises ValueError with what its log says when it fails."""
    from training import engine

    with bar(words) as tell:
        while (state := engine.watch(run)).status in ("queued", "running"):
            progress = run.progress()
            done = f"{progress.done:,} of {progress.total:,} {progress.unit}"
            tell(progress.done / progress.total if progress.total else 0, f"{done} {progress.message}".rstrip())
            time.sleep(0.05)
    if state.status != "done":
        raise ValueError(f"run {run.run_id} {state.status}: {state.error or 'it was stopped'}; see {run.log}")


def settings(given: Sequence[str], form: str) -> dict[str, str]:
    """NAME=VALUE arguments as a dictionary; `form` is what they should look like."""
    found = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise ValueError(f"{one!r}: expected {form}")
        found[name] = value
    return found


def say(words: str, record: dict[str, Any], as_json: bool) -> None:
    """Say what was done, in words or as JSON."""
    typer.echo(json.dumps(record, ensure_ascii=False, default=str) if as_json else words)


def say_rows(rows: list[dict[str, Any]], columns: Sequence[str], as_json: bool, *, none: str) -> None:
    """Print these columns of rows as a table, or all of them as JSON; `none` is said when there is none."""
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False, default=str))
        return
    if not rows:
        typer.echo(none)
        return
    cells = [[_cell(row[name]) for name in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for line in [list(columns), *cells]:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else " ".join(str(value).split())
