"""Commands of reward models: register them, run scoring and training, and say how far they are from the labels."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from curation.cli_parts import HERE, AsJson, Folder, opening, say, say_rows, settings, waiting
from curation.workspace import Workspace

reward_models = typer.Typer(invoke_without_command=True, help="List reward models, or register one.")

Person = Annotated[str, typer.Option(help="Who does this; it is recorded.")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting; may be repeated.")]


def add_to(app: typer.Typer) -> None:
    """Put these commands into the `elephant` command."""
    app.add_typer(reward_models, name="reward-models")
    app.command("run")(run)
    app.command("benchmark")(benchmark)


@contextmanager
def up_to_date(folder: Path) -> Iterator[Workspace]:
    """The workspace with what finished runs made: one that was started without --wait may be over by now."""
    from curation import runs

    with opening(folder) as opened:
        runs.settle(opened)
        yield opened


@reward_models.callback()
def list_models(context: typer.Context, workspace: Folder = HERE, as_json: AsJson = False) -> None:
    """List the reward models of the workspace, or register one."""
    if context.invoked_subcommand is not None:
        return
    from curation import reward_models as registry

    with up_to_date(workspace) as opened:
        models = registry.all_models(opened)
        counts = opened.scores.counts()
    rows = [
        {
            **one._asdict(), "settings": json.loads(one.settings), "registered_at": one.registered_at.isoformat(),
            "reward model": one.reward_model, "what": registry.described(one),
            "scored": counts.get(one.reward_model, (0, 0))[0], "cut": counts.get(one.reward_model, (0, 0))[1],
        }
        for one in models
    ]  # fmt: skip
    say_rows(rows, ("reward model", "scored", "cut", "what"), as_json, none="no reward model yet")


@reward_models.command("add")
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is to be called.")],
    family: Annotated[str, typer.Option(help="Its family: elephant reward-models families.")],
    more: Annotated[list[str] | None, typer.Argument(metavar="NAME=VALUE", help="Settings, as with --set.")] = None,
    changes: Settings = None,
    workspace: Folder = HERE,
    person: Person = "engineer",
    as_json: AsJson = False,
) -> None:
    """Register a reward model: its family and where its weights are."""
    from curation import reward_models as registry

    with up_to_date(workspace) as opened:
        model = registry.register(opened, name, family, _values(changes, more), person)
    say(f"{name}: {registry.described(model)}", {**model._asdict(), "settings": json.loads(model.settings)}, as_json)


@reward_models.command("families")
def list_families(as_json: AsJson = False) -> None:
    """List the families with what they are, their templates and settings."""
    from curation import reward_models as registry

    rows = [{**one, "set": ", ".join(one["settings"])} for one in registry.families()]
    say_rows(rows, ("family", "what it is", "template", "set"), as_json, none="no families")


def run(
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="score, reward, generate, sft, dpo, ppo, rloo, best-of-n or alignment.")
    ],
    more: Annotated[list[str] | None, typer.Argument(metavar="NAME=VALUE", help="Settings, as with --set.")] = None,
    changes: Settings = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the run and take in what it made.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="List this kind's settings, start nothing.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Say what an alignment comes to, start nothing.")] = False,
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Start a background run: score texts by a reward model, train one, or make a policy and look at what it answers."""
    from curation import runs

    if explain:
        say_rows(runs.settings_of(kind), ("setting", "default", "means"), as_json, none="no settings")
        return
    if plan:
        _say_plan(kind, _values(changes, more), workspace, as_json)
        return
    with up_to_date(workspace) as opened:
        started = runs.start_run(opened, kind, _values(changes, more))
        if not wait:
            say(f"run {started.run_id} started", {"run": started.run_id}, as_json)
            return
        waiting(started, kind)
        runs.settle(opened)
        state, progress = started.state(), started.progress()
    if state.status != "done":
        raise ValueError(f"run {started.run_id} {state.status}: {state.error}")
    say(f"run {started.run_id}: {progress.message}", {"run": started.run_id, "done": progress.message}, as_json)


def _say_plan(kind: str, given: dict[str, Any], folder: Path, as_json: bool) -> None:
    from curation import alignment, cli_alignment

    if kind != alignment.KIND:
        raise ValueError(f"--plan goes with {alignment.KIND}, not with {kind}: one run is its own plan")
    with up_to_date(folder) as opened:
        cli_alignment.say_plan(alignment.plan(opened, given), as_json)


def benchmark(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="A dataset of the workspace.")],
    release: Annotated[str, typer.Option(help="What this release made of it: its pairs and labels, and what changed.")] = "",
    models: Annotated[
        list[str] | None, typer.Option("--reward-model", help="Only this one; may be repeated. By default all that scored it.")
    ] = None,
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """How often reward models prefer the chosen response, each share with n and 95% interval; with --json every figure."""
    from curation import benchmark as benchmarking
    from curation import benchmark_report as report
    from curation import pitfalls_report

    with up_to_date(workspace) as opened:
        if as_json:
            say("", report.record(opened, dataset, release, models or []), as_json)
            return
        of = benchmarking.table(opened, dataset, release=release, models=models or [])
        _part("Accuracy", report.accuracy_rows(of))
        _part("To know of scores", report.to_know_rows(opened, dataset, of))
        if len(set(of.subsets)) > 1:
            _part("By subset", report.subset_rows(of))
        _part("By flag", report.flag_rows(of))
        if release:
            _part("Original against cleaned, in parts", report.cleaning_rows(opened, of, dataset, release))
        _part("Best of several responses", report.best_of_rows(opened, dataset, release, of))
        _part("Reward models against each other", report.duel_rows(of))
        if len(of.models) > 1:
            _part("How often they prefer the same side", report.matrix_rows(of))
            _part("Votes against the label", report.vote_rows(of))
        found = {model: benchmarking.behaviour(opened, of, model) for model in of.models}
        _part("Length and confidence", report.behaviour_rows(found))
        _part("Its own formula", report.published_rows(opened, dataset, of))
        _part("Pitfalls: how often the spoilt response scores higher", pitfalls_report.rows(opened, dataset, of.models))


def _part(title: str, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        typer.echo(f"\n{title}")
        say_rows(list(rows), tuple(rows[0]), False, none="")


def _values(changes: list[str] | None, more: list[str] | None) -> dict[str, Any]:
    """Settings as values: JSON lists and objects, everything else as the text it is."""
    found: dict[str, Any] = {}
    for name, value in settings([*(changes or []), *(more or [])], "NAME=VALUE").items():
        found[name] = value
        if value.startswith(("[", "{")):
            try:
                found[name] = json.loads(value)
            except ValueError as error:
                raise ValueError(f"{name} is {value!r}: it begins like JSON but is none ({error})") from None
    return found
