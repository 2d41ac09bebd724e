"""The `elephant` command: the same actions as the pages, for scripts. Exit 0 done, 2 bad input, 1 a bug."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from curation import cli_outcomes, cli_policies, cli_rewards, cli_studies
from curation.cli_parts import HERE, AsJson, Folder, bar, opening, say, say_rows, settings, waiting
from curation.store.database import Busy
from curation.workspace import DATABASE, Workspace
from training.reasons import is_full_disk

app = typer.Typer(
    name="elephant", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="Check preference data and reward models: import, screen, review, release.",
)  # fmt: skip
verdicts = typer.Typer(no_args_is_help=True, help="Verdicts in from and out to files.")
app.add_typer(verdicts, name="verdicts")
cli_studies.add_to(app)
cli_rewards.add_to(app)
cli_policies.add_to(app)
cli_outcomes.add_to(app)

Name = Annotated[str, typer.Argument(metavar="DATASET", help="A dataset of the workspace.")]


def main() -> None:
    """The command's entry point: bad input becomes one line on standard error."""
    try:
        app()
    except (ValueError, Busy, OSError) as error:
        words = " ".join(str(error).split())
        if is_full_disk(error) and "make room" not in words:
            words = f"the disk is full ({words}): make room and try again; what was saved before is safe"
        print(f"elephant: {words}", file=sys.stderr)  # noqa: T201
        sys.exit(2)


@app.command("app")
def open_app(
    workspace: Folder = HERE,
    port: Annotated[int, typer.Option(help="The port to listen on.")] = 8501,
    address: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 lets others in.")] = "127.0.0.1",
    sample: Annotated[bool, typer.Option("--sample", help="Put the sample into a workspace that is empty.")] = False,
) -> None:
    """Open the app in the browser."""
    root = Path(__file__).resolve().parent.parent
    if not (root / "app.py").is_file():
        raise ValueError(f"no app.py in {str(root)!r}: install from a checkout with `pip install -e .`")
    if sample:
        _put_sample(workspace, root / "data" / "sample.jsonl")
    else:
        Workspace(workspace).close()  # a held or damaged database is told here, not in the browser
    os.environ["ELEPHANT_WORKSPACE"] = str(workspace.absolute())
    arguments = ["--server.port", str(port), "--server.address", address]
    os.execv(sys.executable, [sys.executable, "-m", "streamlit", "run", str(root / "app.py"), *arguments])


@app.command("import")
def import_dataset(
    source: Annotated[str, typer.Argument(help="A file, a folder, or a hub id such as Anthropic/hh-rlhf.")],
    workspace: Folder = HERE,
    name: Annotated[str | None, typer.Option(help="The dataset's name; by default the source's.")] = None,
    split: Annotated[str | None, typer.Option(help="Read only this split.")] = None,
    limit: Annotated[int | None, typer.Option(help="Read only so many rows.")] = None,
    mapping: Annotated[list[str] | None, typer.Option("--map", metavar="FIELD=COLUMN", help="Where a field stands.")] = None,
    as_json: AsJson = False,
) -> None:
    """Import a dataset; doing it again changes nothing."""
    from curation.importing import import_source
    from curation.sources import source_of

    read = source_of(source, split=split, limit=limit, mapping=settings(mapping or [], "FIELD=COLUMN"))
    with opening(workspace) as opened, bar("importing") as tell:
        done = import_source(opened, read, name or read.name.split(".")[0], progress=tell)
    again = "" if done.new else ", all of them there already"
    where = f" (see `elephant datasets --rejects {done.dataset}`)" if done.rejected else ""
    say(f"{done.dataset}: {done.rows:,} rows, {done.rejected:,} rejected{where}{again}", done._asdict(), as_json)


@app.command()
def datasets(
    workspace: Folder = HERE,
    rejects: Annotated[str | None, typer.Option(help="List the rows of this dataset that could not be read.")] = None,
    as_json: AsJson = False,
) -> None:
    """List datasets, or the rejected rows of one."""
    with opening(workspace) as opened:
        if rejects is not None:
            opened.pairs.dataset(rejects)
            rows = opened.pairs.rejects(rejects, limit=1_000_000)
            say_rows(rows, ("file", "line", "reason"), as_json, none="no rejected rows")
            return
        rows = [
            {**one._asdict(), "flagged": opened.flags.flagged(one.dataset), "imported_at": one.imported_at.isoformat()}
            for one in opened.pairs.datasets()
        ]
    say_rows(rows, ("dataset", "imported", "rejected", "flagged", "source"), as_json, none="no dataset yet")


@app.command()
def filters(
    workspace: Folder = HERE,
    worth: Annotated[str | None, typer.Option(metavar="DATASET", help="Hold its flags against its verdicts.")] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FILTER.threshold=VALUE", help="With --worth: from this score on a finding is a flag."),
    ] = None,
    person: Annotated[str, typer.Option(help="Who sets a threshold.")] = "curator",
    as_json: AsJson = False,
) -> None:
    """List filters with what they look for and their parameters, or say what each is worth on a dataset."""
    from curation.filters.registry import FILTERS

    thresholds = _thresholds(changes or [])
    if worth is not None:
        _say_worth(workspace, worth, thresholds, person, as_json)
        return
    if thresholds:
        raise ValueError("--set: expected together with --worth DATASET")
    rows = []
    for name, kind in FILTERS.items():
        fields = {field: {"default": one.default, "means": one.description} for field, one in kind.model_fields.items()}
        shown = ", ".join(f"{field}={one['default']}" for field, one in fields.items())
        rows.append({"filter": name, "looks for": kind.description(), "parameters": fields, "set": shown})
    say_rows(rows, ("filter", "set", "looks for"), as_json, none="no filters")


@app.command()
def screen(
    dataset: Name,
    workspace: Folder = HERE,
    chosen: Annotated[list[str] | None, typer.Option("--filter", help="Only this filter; may be given again.")] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="FILTER.PARAM=VALUE", help="Set a parameter.")] = None,
    wait: Annotated[bool, typer.Option(help="Wait for the run and take in what it finds.")] = True,
    as_json: AsJson = False,
) -> None:
    """Screen a dataset with all filters, or with those named."""
    from curation import runs
    from curation.filters.registry import FILTERS

    wanted: dict[str, dict[str, Any]] = {name: {} for name in chosen or FILTERS}
    for target, value in settings(changes or [], "FILTER.PARAM=VALUE").items():
        name, _, parameter = target.partition(".")
        if not parameter or name not in wanted:
            raise ValueError(f"--set {target}={value}: expected FILTER.PARAM=VALUE with one of {', '.join(wanted)}")
        wanted[name][parameter] = value
    with opening(workspace) as opened:
        run = runs.start_screening(opened, dataset, wanted)
        if not wait:
            say(f"run {run.run_id} started", {"run": run.run_id}, as_json)
            return
        try:
            waiting(run, "screening")
        finally:
            runs.settle(opened)  # where some filters failed, what the others found comes in all the same
        found = [one for one in opened.flags.current(dataset) if one.run_id == run.run_id]
    rows = [{"filter": one.filter, "flagged": one.flagged, "of": one.screened} for one in found]
    say_rows(rows, ("filter", "flagged", "of"), as_json, none="nothing was screened")


@app.command()
def flags(
    dataset: Name,
    workspace: Folder = HERE,
    out: Annotated[Path | None, typer.Option(help="Write one flag a row: .jsonl, .csv or .parquet.")] = None,
    as_json: AsJson = False,
) -> None:
    """Count a dataset's flags by filter and subset, or write them to a file."""
    from curation import exchange

    with opening(workspace) as opened:
        if out is not None:
            written = exchange.export_flags(opened, dataset, out)
            say(f"{written:,} flags in {out}", {"flags": written, "file": str(out)}, as_json)
            return
        opened.pairs.dataset(dataset)
        rows = opened.flags.counts(dataset)
    say_rows(rows, ("filter", "subset", "pairs", "of"), as_json, none=f"not screened yet: elephant screen {dataset}")


@app.command("runs")
def list_runs(workspace: Folder = HERE, as_json: AsJson = False) -> None:
    """List background runs, taking in those that have finished."""
    from curation import runs

    with opening(workspace) as opened:
        runs.settle(opened)
        rows = [
            {
                "run": one.run.run_id, "status": one.state.status, "title": one.state.title,
                "done": one.progress.done, "of": one.progress.total, "says": one.progress.message, "error": one.state.error,
            }
            for one in runs.all_runs(opened)
        ]  # fmt: skip
    say_rows(rows, ("run", "status", "done", "of", "title", "says"), as_json, none="no runs yet")


@app.command()
def cancel(run: Annotated[str, typer.Argument(metavar="RUN")], workspace: Folder = HERE, as_json: AsJson = False) -> None:
    """Stop a run; what it has finished is kept. Works while the app is open, too."""
    from training import engine

    state = engine.cancel(_run(workspace, run))
    say(f"run {run} is {state.status}", {"run": run, "status": state.status}, as_json)


@app.command()
def resume(run: Annotated[str, typer.Argument(metavar="RUN")], workspace: Folder = HERE, as_json: AsJson = False) -> None:
    """Let a failed or cancelled run go on. Works while the app is open, too."""
    from training import engine

    state = engine.resume(_run(workspace, run))
    say(f"run {run} is {state.status}", {"run": run, "status": state.status}, as_json)


@app.command()
def release(
    dataset: Name,
    name: Annotated[str, typer.Option(help="The release's name.")],
    workspace: Folder = HERE,
    out: Annotated[Path | None, typer.Option(help="The folder to write; by default one in the workspace.")] = None,
    policy: Annotated[Path | None, typer.Option(help="A JSON file: what stays, what is swapped, what goes.")] = None,
    as_json: AsJson = False,
) -> None:
    """Freeze a cleaned version of a dataset."""
    from curation import release as releasing

    rules = _policy_from(policy)
    with opening(workspace) as opened, bar("releasing") as tell:
        made = releasing.release(opened, dataset, name, rules, out=out, progress=tell)
    manifest = json.loads(made.manifest)
    say(
        f"{made.name}: {releasing.in_words(manifest)}, in {workspace / made.folder}",
        {**made._asdict(), "manifest": manifest},
        as_json,
    )


@app.command()
def ablation(
    dataset: Name,
    workspace: Folder = HERE,
    policy: Annotated[Path | None, typer.Option(help="A JSON file with the whole policy; by default the usual one.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare release policies, from nothing to everything: what each part of the cleaning does to the dataset."""
    from curation import ablation as comparing
    from curation import runs

    with opening(workspace) as opened:
        run = runs.start_ablation(opened, dataset, _policy_from(policy))
        waiting(run, "comparing")
        found = comparing.latest(opened, dataset)
    assert found is not None
    if as_json:
        say("", found, as_json)
        return
    rows = comparing.in_words(found)
    say_rows(rows, tuple(rows[0]), as_json, none="")
    typer.echo("; ".join(f"{what} by {model}" for what, model in found["read_by"].items()))


@app.command()
def releases(workspace: Folder = HERE, as_json: AsJson = False) -> None:
    """List releases."""
    with opening(workspace) as opened:
        rows = [
            {
                "name": one.name,
                "dataset": one.dataset,
                "folder": str(workspace / one.folder),
                "released_at": one.released_at.isoformat(),
            }
            for one in opened.releases.all()
        ]
    say_rows(rows, ("name", "dataset", "released_at", "folder"), as_json, none="no releases yet")


@verdicts.command("import")
def import_verdicts(
    file: Path,
    workspace: Folder = HERE,
    dataset: Annotated[str | None, typer.Option(help="The dataset that rows, where given, count in.")] = None,
    as_json: AsJson = False,
) -> None:
    """Take in verdicts: pair_id (or row), person, verdict; the same ones again change nothing."""
    from curation import exchange

    with opening(workspace) as opened:
        taken = exchange.import_verdicts(opened, file, dataset=dataset)
    first = f"; the first: record {taken.rejected[0][0]}: {taken.rejected[0][1]}" if taken.rejected else ""
    words = f"{taken.new:,} new verdicts, {taken.known:,} there already, {len(taken.rejected):,} rejected{first}"
    say(words, taken._asdict(), as_json)


@verdicts.command("export")
def export_verdicts(file: Path, workspace: Folder = HERE, as_json: AsJson = False) -> None:
    """Write every verdict event, undone ones marked."""
    from curation import exchange

    with opening(workspace) as opened:
        written = exchange.export_verdicts(opened, file)
    say(f"{written:,} verdicts in {file}", {"verdicts": written, "file": str(file)}, as_json)


@app.command()
def backup(file: Path, workspace: Folder = HERE, as_json: AsJson = False) -> None:
    """Copy the workspace's database to a file. (In an open app: the Overview page.)"""
    if file.exists():
        raise ValueError(f"{str(file)!r} exists: a backup overwrites nothing")
    with opening(workspace) as opened:
        opened.database.backup(file)
    say(f"{file}: {file.stat().st_size:,} bytes", {"file": str(file), "bytes": file.stat().st_size}, as_json)


@app.command()
def restore(
    file: Path,
    workspace: Folder = HERE,
    force: Annotated[bool, typer.Option("--force", help="Replace a database that is there (it is kept beside).")] = False,
    as_json: AsJson = False,
) -> None:
    """Put a backup into a workspace, after checking it."""
    from curation.store import database

    kept = database.restore(file, workspace / DATABASE, force=force)
    beside = f"; the one before is {kept}" if kept else ""
    say(
        f"restored {file} into {workspace}{beside}",
        {"restored": str(file), "kept": str(kept) if kept else None},
        as_json,
    )


# ---- inside


def _put_sample(folder: Path, file: Path) -> None:
    from curation import runs
    from curation.importing import import_source
    from curation.sources import source_of

    with opening(folder) as opened:
        if opened.pairs.datasets():
            return
        import_source(opened, source_of(str(file)), "sample")
        waiting(runs.start_screening(opened, "sample"), "screening")
        runs.settle(opened)


def _policy_from(file: Path | None) -> Any:
    from curation.release_policy import Policy, policy_from

    if file is None:
        return Policy()
    if not file.is_file():
        raise ValueError(f"no file {str(file)!r} with a policy")
    return policy_from(file.read_text(encoding="utf-8"))


def _run(folder: Path, run_id: str) -> Any:
    """A run by its folder: runs are watched and stopped without the database, which an open app holds."""
    from curation.runs import find_in

    return find_in(folder / "runs", run_id)


def _thresholds(given: Sequence[str]) -> dict[str, float]:
    """Thresholds by filter, of FILTER.threshold=VALUE."""
    thresholds = {}
    for target, value in settings(given, "FILTER.threshold=VALUE").items():
        name, _, parameter = target.partition(".")
        try:
            thresholds[name] = float(value)
        except ValueError:
            parameter = ""
        if parameter != "threshold":
            raise ValueError(f"--set {target}={value}: expected FILTER.threshold=VALUE with a number from 0 to 1")
    return thresholds


def _say_worth(folder: Path, dataset: str, thresholds: dict[str, float], person: str, as_json: bool) -> None:
    """What each filter is worth, after setting thresholds; all of them are set or none."""
    from curation.worth import move_thresholds
    from curation.worth import worth as held_against_verdicts

    with opening(folder) as opened:
        if thresholds:
            move_thresholds(opened, dataset, thresholds, person)
        found = held_against_verdicts(opened, dataset)
    if as_json:
        say("", found.record(), as_json)
        return
    rows = [one.row() for one in found.filters.values()]
    say_rows(rows, list(rows[0]), as_json, none="no filters")
    for line in ["", found.control.headline(), *found.control.details(), "", *found.proposals_in_words()]:
        typer.echo(line)


if __name__ == "__main__":
    main()
