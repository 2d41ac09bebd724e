"""Commands of policies: list them, register one made elsewhere, say what made one, write what it answered to a file."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from curation.cli_parts import HERE, AsJson, Folder, say, say_rows
from curation.cli_rewards import Person, up_to_date

policies = typer.Typer(invoke_without_command=True, help="List policies, register one, say what made one, write its responses.")

PolicyName = Annotated[str, typer.Argument(metavar="NAME", help="A policy of the workspace.")]


def add_to(app: typer.Typer) -> None:
    """Put these commands into the `elephant` command."""
    app.add_typer(policies, name="policies")


@policies.callback()
def list_policies(context: typer.Context, workspace: Folder = HERE, as_json: AsJson = False) -> None:
    """List the policies of the workspace: from what, by which reward model, how far from its start, how many responses."""
    if context.invoked_subcommand is not None:
        return
    from curation import policy_view

    with up_to_date(workspace) as opened:
        rows = policy_view.rows(opened)
    say_rows(rows, ("policy", "kind", "from", "reward model", "KL", "responses"), as_json, none="no policy yet")


@policies.command("add")
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is to be called.")],
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A folder, smollm2, or an id on the hub.")],
    workspace: Folder = HERE,
    person: Person = "engineer",
    as_json: AsJson = False,
) -> None:
    """Register a policy made elsewhere, to begin from or to answer prompts; smollm2 needs none of it."""
    from curation import policies as registry

    with up_to_date(workspace) as opened:
        policy = registry.register(opened, name, source.removeprefix("source="), person)
    say(f"{name}: {policy.source}", {**policy._asdict(), "lineage": json.loads(policy.lineage)}, as_json)


@policies.command("show")
def show(name: PolicyName, workspace: Folder = HERE, as_json: AsJson = False) -> None:
    """Say what made a policy: its start, data, reward model, seed, code and what came out at each point."""
    from curation import policy_view

    with up_to_date(workspace) as opened:
        policy = opened.policies.policy(name)
    lines = policy_view.in_words(policy)
    record: dict[str, Any] = {**policy._asdict(), "lineage": json.loads(policy.lineage)}
    say("\n".join(lines), record, as_json)


@policies.command("export")
def export(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A policy, or POLICY/REWARD_MODEL of best-of-n.")],
    out: Annotated[Path, typer.Option(help="The file: .jsonl, .json, .csv or .parquet.")],
    point: Annotated[int | None, typer.Option(help="At this step of training (or n); by default the last.")] = None,
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Write what a policy answered in AlpacaEval's form: instruction, output, generator, and the whole prompt."""
    from curation import policy_view

    with up_to_date(workspace) as opened:
        written = policy_view.export(opened, name, out, point=point)
    say(f"{written:,} responses in {out}", {"responses": written, "file": str(out)}, as_json)
