"""What came out of alignment, as a command."""

from typing import Annotated

import typer

from curation.cli_parts import HERE, AsJson, Folder, say, say_rows
from curation.cli_rewards import up_to_date

Measured = Annotated[str, typer.Option(help="The outcome: win rate, gain, or gain at equal KL.")]


def add_to(app: typer.Typer) -> None:
    """Put this command into the `elephant` command."""
    app.command("alignment")(alignment)


def alignment(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A grid; by default the latest.")] = None,
    gold: Annotated[str, typer.Option(help="The reward model that judges; by default one that nothing here optimised.")] = "",
    measure: Measured = "win rate",
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """What optimising reward models did to policies: curves, win rates, algorithm by reward model, what cleaning did."""
    from curation import outcomes_grid, outcomes_report

    with up_to_date(workspace) as opened:
        wanted = next((one for one in outcomes_grid.MEASURES if one == measure), None)
        if wanted is None:
            raise ValueError(f"measure is {measure!r}: expected one of {', '.join(outcomes_grid.MEASURES)}")
        there = outcomes_report.alignments(opened)
        grid = name if name is not None else next(iter(there), None)
        if as_json:
            say("", outcomes_report.record(opened, grid, gold, wanted), as_json)
            return
        if grid is None:
            typer.echo("no policy has answered held-out prompts yet: elephant run alignment --explain")
            return
        for title, rows in outcomes_report.parts(opened, grid, gold, wanted).items():
            if rows:
                typer.echo(f"\n{title}")
                say_rows(rows, tuple(rows[0]), False, none="")
                if title in outcomes_report.NOTES:
                    typer.echo(outcomes_report.NOTES[title])
