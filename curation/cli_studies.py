"""Commands of studies: set one up, add items, close and reopen it, ratings in and out, how far its raters agree."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from curation.cli_parts import HERE, AsJson, Folder, opening, say, say_rows, settings

study = typer.Typer(no_args_is_help=True, help="Human evaluation: set up a study, add items, close and reopen it.")
ratings = typer.Typer(no_args_is_help=True, help="Ratings and preferences in from and out to files.")

StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="A study of the workspace.")]
Person = Annotated[str, typer.Option(help="Who does this; it is recorded.")]
Dataset = Annotated[str | None, typer.Option(help="Draw items from this dataset's pairs.")]
Release = Annotated[str | None, typer.Option(help="Draw only from what this release of the dataset keeps.")]
Outputs = Annotated[
    list[Path] | None, typer.Option(help="Draw items from generators' outputs: AlpacaEval's form, or MT-bench's answers.")
]
Policies = Annotated[
    str | None, typer.Option(help="Draw items from what these policies answered, with commas: elephant policies.")
]
Point = Annotated[
    int | None, typer.Option(help="With --policies: at this step of training (or n); by default each one's last.")
]
Questions = Annotated[Path | None, typer.Option(help="MT-bench's question file, for its answers.")]
Items = Annotated[Path | None, typer.Option(help="Items as they stand in a file: prompt, responses, kind, expected.")]
Count = Annotated[int, typer.Option("--count", min=1, help="How many items to draw.")]
Stratify = Annotated[list[str] | None, typer.Option(help="Draw in proportion to subset, length or flag; may be repeated.")]
Equal = Annotated[bool, typer.Option("--equal", help="As many of each stratum instead.")]
Seed = Annotated[int, typer.Option(help="The same seed draws the same items.")]
Attention = Annotated[int, typer.Option(min=0, help="Attention items to make of the items.")]
Gold = Annotated[int, typer.Option(min=0, help="Gold items to make of the dataset's settled pairs.")]
WarmUp = Annotated[int, typer.Option("--warm-up", min=0, help="Warm-up items to make of them; they come first, with feedback.")]
Each = Annotated[int, typer.Option(min=1, help="To compare outputs: how many pairs of generators of one prompt.")]


def add_to(app: typer.Typer) -> None:
    """Put these commands into the `elephant` command."""
    app.add_typer(study, name="study")
    app.add_typer(ratings, name="ratings")
    app.command("studies")(list_studies)
    app.command("agreement")(agreement)


@study.command("create")
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new study's name.")],
    workspace: Folder = HERE,
    protocol: Annotated[str, typer.Option(help="rate, compare or both.")] = "rate",
    aspect: Annotated[list[str] | None, typer.Option(help="What responses are rated on; may be repeated.")] = None,
    points: Annotated[int | None, typer.Option(min=2, max=7, help="Points of every scale.")] = None,
    guidelines: Annotated[Path | None, typer.Option(help="A Markdown file shown to raters.")] = None,
    overlap: Annotated[int, typer.Option(min=1, help="Distinct raters for each item.")] = 3,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Any other field of the design, as JSON or a word.")
    ] = None,
    design: Annotated[Path | None, typer.Option(help="The whole design as a JSON file; the options above change it.")] = None,
    dataset: Dataset = None, release: Release = None, policies: Policies = None, point: Point = None,
    outputs: Outputs = None, questions: Questions = None, items: Items = None, count: Count = 100,
    stratify: Stratify = None, equal: Equal = False, seed: Seed = 0,
    attention: Attention = 0, gold: Gold = 0, warm_up: WarmUp = 0, each: Each = 1,
    person: Person = "lead", as_json: AsJson = False,
) -> None:  # fmt: skip
    """Set up a study; with a source, draw its items too."""
    from curation import studies

    values: dict[str, Any] = {} if design is None else _design_file(design)
    if design is None or aspect:
        names = aspect or ([] if protocol == "compare" else ["helpfulness"])
        values["aspects"] = [one.model_dump() for one in studies.aspects_named(names, points=points)]
    if design is None:
        values |= {"protocol": protocol, "overlap": overlap}
    if guidelines is not None:
        values["guidelines"] = guidelines.read_text(encoding="utf-8")
    values |= {field: _plain(value) for field, value in settings(changes or [], "FIELD=VALUE").items()}
    wanted = studies.design_from(values)
    with opening(workspace) as opened:
        mixed = {"attention": attention, "gold": gold, "warm-up": warm_up}
        of = _Policies(policies, point)
        source = _Source(dataset, release, of, outputs or [], questions, items, count, stratify or [], equal, seed, mixed, each)
        found = source.draw(opened, name.strip(), wanted)  # before the study is made: bad input makes none
        for one in found:
            studies.check_items(wanted, one.items)
        studies.create(opened, name, wanted, person)
        added = [
            {"new": studies.add_items(opened, name.strip(), one.items, person, words=one.words), "words": one.words}
            for one in found
        ]
    said = "".join(f"; {one['new']} items added ({one['words']})" for one in added)
    say(f"{name.strip()}: created{said}", {"study": name.strip(), "added": added, **wanted.model_dump()}, as_json)


@study.command("add")
def add(
    name: StudyName, workspace: Folder = HERE, dataset: Dataset = None, release: Release = None, policies: Policies = None,
    point: Point = None, outputs: Outputs = None, questions: Questions = None, items: Items = None, count: Count = 100,
    stratify: Stratify = None, equal: Equal = False, seed: Seed = 0, attention: Attention = 0, gold: Gold = 0,
    warm_up: WarmUp = 0, each: Each = 1,
    person: Person = "lead", as_json: AsJson = False,
) -> None:  # fmt: skip
    """Add items to a study; those it has already are left alone."""
    from curation import studies

    with opening(workspace) as opened:
        mixed = {"attention": attention, "gold": gold, "warm-up": warm_up}
        of = _Policies(policies, point)
        source = _Source(dataset, release, of, outputs or [], questions, items, count, stratify or [], equal, seed, mixed, each)
        found = source.draw(opened, name, studies.design_of(opened, name))
        if not found:
            raise ValueError("nothing to add: give --dataset, --outputs or --items, or --policies")
        added = [
            {"new": studies.add_items(opened, name, one.items, person, words=one.words), "words": one.words} for one in found
        ]
    say("; ".join(f"{one['new']} items added ({one['words']})" for one in added), {"study": name, "added": added}, as_json)


@study.command("change")
def change(
    name: StudyName,
    changes: Annotated[
        list[str], typer.Option("--set", metavar="FIELD=VALUE", help="A field of the design, as JSON or a word.")
    ],
    workspace: Folder = HERE,
    person: Person = "lead",
    as_json: AsJson = False,
) -> None:
    """Change a study's design: before the first answer anything, afterwards what widens it."""
    from curation import studies

    with opening(workspace) as opened:
        now = studies.design_of(opened, name)
        given = {field: _plain(value) for field, value in settings(changes, "FIELD=VALUE").items()}
        different = studies.change(opened, name, studies.design_from(now.model_dump() | given), person)
    words = f"{name}: {', '.join(different)} changed" if different else f"{name}: nothing was changed"
    say(words, {"study": name, "changed": {field: list(pair) for field, pair in different.items()}}, as_json)


@study.command("close")
def close(name: StudyName, workspace: Folder = HERE, person: Person = "lead", as_json: AsJson = False) -> None:
    """Take no more answers."""
    from curation import studies

    with opening(workspace) as opened:
        studies.close(opened, name, person)
    say(f"{name}: closed", {"study": name, "closed": True}, as_json)


@study.command("reopen")
def reopen(name: StudyName, workspace: Folder = HERE, person: Person = "lead", as_json: AsJson = False) -> None:
    """Take answers again."""
    from curation import studies

    with opening(workspace) as opened:
        studies.reopen(opened, name, person)
    say(f"{name}: open", {"study": name, "closed": False}, as_json)


def list_studies(workspace: Folder = HERE, as_json: AsJson = False) -> None:
    """List studies and how far they are."""
    from curation import studies

    with opening(workspace) as opened:
        rows = [
            {
                "study": one.study, "protocol": one.design.protocol, "items": one.items, "answers": one.answers,
                "raters": one.raters, "overlap": one.design.overlap, "state": "closed" if one.closed else "open",
            }
            for one in studies.all_studies(opened)
        ]  # fmt: skip
    say_rows(rows, ("study", "protocol", "items", "answers", "raters", "overlap", "state"), as_json, none="no study yet")


@ratings.command("import")
def import_ratings(
    file: Annotated[Path, typer.Argument(help="Tidy .csv, .jsonl or .parquet, or Argilla, Label Studio, MT-bench, FastChat.")],
    study: Annotated[str, typer.Option("--study", help="The study; a new one is made, closed, when there is none.")],
    workspace: Folder = HERE,
    form: Annotated[str, typer.Option(help="auto, tidy, argilla, label-studio, mt-bench or fastchat.")] = "auto",
    mapping: Annotated[list[str] | None, typer.Option("--map", metavar="FIELD=COLUMN", help="Where a field stands.")] = None,
    scale: Annotated[str, typer.Option(help="Words of the scale, the lowest first: No,Unsure,Yes.")] = "",
    texts: Annotated[Path | None, typer.Option(help="A file with item, prompt and response, for ratings without them.")] = None,
    person: Person = "lead",
    as_json: AsJson = False,
) -> None:
    """Take in ratings and preferences; doing it again changes nothing."""
    from curation import ratings_import

    words = [one.strip() for one in scale.split(",") if one.strip()]
    columns = settings(mapping or [], "FIELD=COLUMN")
    with opening(workspace) as opened:
        taken = ratings_import.import_ratings(
            opened, study.strip(), file, person=person, form=form, mapping=columns, scale=words, texts=texts
        )
    say(f"{study.strip()}: {taken.words()}", taken._asdict(), as_json)


@ratings.command("export")
def export_ratings(
    file: Annotated[Path, typer.Argument(help=".csv, .jsonl, .json or .parquet, by ending.")],
    study: Annotated[str, typer.Option("--study", help="The study.")],
    workspace: Folder = HERE,
    kind: Annotated[str, typer.Option(help="ratings, preferences or labels (what raters hold together).")] = "ratings",
    form: Annotated[str, typer.Option(help="tidy, argilla, label-studio or mt-bench.")] = "tidy",
    names: Annotated[bool, typer.Option("--names", help="Raters' names instead of pseudonyms.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a study's ratings, preferences or labels to a file."""
    from curation import ratings_export

    if kind not in ("ratings", "preferences", "labels"):
        raise ValueError(f"--kind is {kind!r}: expected ratings, preferences or labels")
    with opening(workspace) as opened:
        if kind == "labels":
            opened.studies.check(study)
            written = ratings_export.export_labels(opened, study, file)
        else:
            written = ratings_export.export_ratings(opened, study, file, kind=kind, form=form, names=names)
    say(f"{written:,} {kind} written to {file}", {"written": written, "file": str(file)}, as_json)


def agreement(
    name: StudyName,
    models: Annotated[
        list[str] | None, typer.Option("--reward-model", help="Set this reward model beside the people; may be repeated.")
    ] = None,
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """How far a study's raters agree, and reward models with them; with --json every figure of the agreement page."""
    from curation import people, proxies, reward_models, runs

    with opening(workspace) as opened:
        runs.settle(opened)
        for one in models or []:
            reward_models.model_named(opened, one)
        if models:
            _check_scored(opened, name, models)
        if as_json:
            more = {"reward_models": proxies.record(opened, name, models)} if models else {}
            say("", people.report(opened, name) | more, as_json)
            return
        opened.studies.check(name)
        tables = people.tables(opened, name)
        if models:
            _say_proxies(opened, name, tables, models)
            return
        rows = [
            {"of": table.name, "measure": one.name, "figure": one.figure.words()}
            for table in tables.values()
            for one in people.measures(table)
        ]
        writers = people.beside(people.generators(opened, name)) if tables else []
    say_rows(rows, ("of", "measure", "figure"), as_json, none="nobody has answered yet")
    for writer in writers:
        figures = "; ".join(f"{what} {figure}" for what, figure in writer.items() if what and figure)
        typer.echo(f"{writer['']}: {figures}")


def _check_scored(opened: Any, name: str, models: list[str]) -> None:
    opened.studies.check(name)
    missing = sorted(set(models) - opened.scores.scored_in(name))
    if missing:
        what = f"elephant run score reward_model={missing[0]} study={name}"
        raise ValueError(f"{', '.join(missing)} has not scored the study {name!r} yet: {what}")


def _say_proxies(opened: Any, name: str, tables: dict[str, Any], models: list[str]) -> None:
    """Each reward model beside people, a line a figure, and the sentence that sums it up."""
    from curation import proxies

    if not tables:
        typer.echo("nobody has answered yet")
        return
    for table in tables.values():
        found = [proxies.proxy(opened, name, table, one) for one in models if proxies.has_scored(opened, name, table, one)]
        for one in found:
            typer.echo(f"\n{one.model} {one.verdict()}")
            (row,) = proxies.rows([one])
            rows = [{"of": table.name, "measure": what, "figure": figure} for what, figure in row.items()]
            parts = proxies.by_subset(opened, name, table, one.model)
            rows += [
                {"of": table.name, "measure": f"subset {part}", "figure": figure.words()} for part, figure in parts.items()
            ]
            say_rows(rows[1:], ("of", "measure", "figure"), False, none="")


class _Policies:
    """Policies whose answers are rated, at one point or each at its last."""

    def __init__(self, given: str | None, point: int | None) -> None:
        self.names = [one.strip() for one in (given or "").split(",") if one.strip()]
        self.point = point
        if given is not None and not self.names:
            raise ValueError(f"--policies is {given!r}: expected names of policies, with commas")
        if point is not None and not self.names:
            raise ValueError("--point needs --policies")


class _Source:
    """Where items come from, as the options tell."""

    def __init__(
        self, dataset: str | None, release: str | None, policies: _Policies, outputs: list[Path], questions: Path | None,
        items: Path | None, count: int, stratify: list[str], equal: bool, seed: int, mixed: dict[str, int], each: int,
    ) -> None:  # fmt: skip
        given = {"--dataset": dataset, "--policies": policies.names, "--outputs": outputs, "--items": items}
        named = [name for name, value in given.items() if value]
        if len(named) > 1:
            raise ValueError(f"{', '.join(named[:-1])} and {named[-1]} were given together: expected one of them")
        if (release is not None or mixed["gold"] or mixed["warm-up"]) and dataset is None:
            raise ValueError("--release, --gold and --warm-up need --dataset")
        self.policies = policies
        self.dataset, self.release, self.outputs, self.questions, self.items = dataset, release, outputs, questions, items
        self.count, self.stratify, self.equal, self.seed = count, stratify, equal, seed
        self.mixed, self.each = mixed, each

    def draw(self, workspace: Any, name: str, design: Any) -> list[Any]:
        """The items, each group with words that say where it is from; none without a source."""
        from curation import study_items
        from curation.study_items import Drawn, Sample, strata_named

        sample = Sample(self.count, strata_named(self.stratify), self.equal, self.seed)
        if self.dataset is not None:
            found = [study_items.from_dataset(workspace, name, self.dataset, sample, release=self.release)]
        elif self.policies.names:
            of = self.policies
            found = [study_items.from_policies(workspace, name, design, of.names, sample, each=self.each, point=of.point)]
        elif self.outputs:
            files = self.outputs
            found = [study_items.from_output_files(name, design, files, sample, each=self.each, questions=self.questions)]
        elif self.items is not None:
            found = [study_items.from_item_file(name, self.items)]
        else:
            return []
        if self.mixed["attention"]:
            made = study_items.attention_items(name, design, found[0].items, self.mixed["attention"], seed=self.seed)
            found.append(Drawn(made, f"{len(made)} attention items"))
        for kind in ("gold", "warm-up"):
            if self.mixed[kind] and self.dataset is not None:
                there = [item for one in found for item in one.items]
                some = Sample(self.mixed[kind], seed=self.seed)
                found.append(study_items.gold_from_settled(workspace, name, self.dataset, some, without=there, kind=kind))
        return found


def _design_file(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{str(path)!r} cannot be read as a design: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{str(path)!r} holds {type(found).__name__}: expected an object with the fields of a design")
    return found


def _plain(value: str) -> Any:
    """A value of --set: JSON where it is, else the text itself."""
    try:
        return json.loads(value)
    except ValueError:
        return value
