"""Ratings, preferences and labels of a study out to files, people under pseudonyms."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from curation import people, ratings_files, studies, tables
from curation.ratings_rows import PreferenceRow, RatingRow, Row
from curation.workspace import Workspace

INCONSISTENT = "tie (inconsistent)"  # the one note that MT-bench judgments have a place for
FORMS = {
    "tidy": "tidy tables, with everything",
    "argilla": "Argilla",
    "label-studio": "Label Studio",
    "mt-bench": "MT-bench judgments",
}


class File(NamedTuple):
    """A file that can be written: its name, and what gives its bytes."""

    name: str
    write: Callable[[], bytes]


def files(workspace: Workspace, study: str, *, form: str = "tidy", names: bool = False) -> list[File]:
    """The files of a study in this form: ratings, preferences, and in the tidy form the labels raters hold together."""
    found = []
    ending = "csv" if form == "tidy" else "json"
    for kind in ("ratings", "preferences"):
        if form == "mt-bench" and kind == "ratings":
            continue
        if workspace.answers.has(study, kind):
            found.append(File(f"{study}-{kind}.{ending}", _writer(workspace, study, kind, form, names, ending)))
    if form == "tidy" and found:
        found.append(File(f"{study}-labels.jsonl", lambda: _bytes("jsonl", lambda path: export_labels(workspace, study, path))))
    return found


def export_ratings(
    workspace: Workspace, study: str, path: Path, *, kind: str = "ratings", form: str = "tidy", names: bool = False
) -> int:
    """Write ratings or preferences with timings, order shown, claims and pseudonyms (or names); returns how many rows.

    What a form has no place for is left out. Raises ValueError when there is nothing to write.
    """
    workspace.studies.check(study)
    if form == "mt-bench" and kind == "ratings":
        raise ValueError("the mt-bench form holds comparisons alone: expected preferences, not ratings")
    rows = rows_of(workspace, study, kind=kind, names=names)
    holds = ratings_files.FORMS[form].HOLDS if form in ratings_files.FORMS else frozenset()
    if form == "mt-bench":  # it has no place for kinds, and none for a note but its own
        rows = [one._replace(note=one.note if one.note == INCONSISTENT else "") for one in rows if one.kind == "item"]
    if not rows:
        raise ValueError(f"{study!r} has no {kind} yet")
    without = [] if form == "tidy" else sorted(set(type(rows[0])._fields) - {"line", *holds})
    return ratings_files.write(path, rows, form=form, without=without)


def export_labels(workspace: Workspace, study: str, path: Path) -> int:
    """Write what raters hold together, a record a response and aspect or comparison; returns how many."""
    found = people.labels(workspace, study)
    if tables.kind_of(path) == "parquet":  # a column has one type: numbers of ratings and words of comparisons are text there
        held = ("majority", "dawid_skene", "adjudicated")
        found = [one | {name: None if one[name] is None else str(one[name]) for name in held} for one in found]
    tables.write(path, found, people.LABEL_COLUMNS)
    return len(found)


def rows_of(workspace: Workspace, study: str, *, kind: str, names: bool = False) -> list[Row]:
    """A study's standing ratings or preferences as rows of a file, people under pseudonyms unless `names` is given."""
    design = studies.design_of(workspace, study)
    words = {one.name: one.words for one in design.found if one.words}
    writers = workspace.studies.generators(study)
    found = workspace.answers.ratings(study) if kind == "ratings" else workspace.answers.preferences(study)
    contents = workspace.studies.contents(study)
    people_in = sorted({one["person"] for one in found})
    called = {one: one for one in people_in} if names else workspace.releases.pseudonyms_for(people_in, "rater")
    rows: list[Row] = []
    for line, one in enumerate(found, start=1):
        content = contents[one["item_id"]]
        by = writers[one["item_id"]]
        about = {
            "line": line, "item": one["name"] or one["item_id"], "prompt": content.prompt or None,
            "rater": called[one["person"]],
            "subset": one["subset"], "seconds": one["seconds"], "at": one["answered_at"], "claim": one["claim_id"],
            "note": "; ".join([*one["reasons"], *([one["note"]] if one["note"] else [])]), "kind": one["item_kind"],
        }  # fmt: skip
        if kind == "ratings":
            value = words[one["aspect"]][int(one["value"]) - 1] if one["aspect"] in words else f"{one['value']:g}"
            rows.append(
                RatingRow(
                    response=content.texts[one["response_id"]], generator="+".join(by[one["response_id"]]),
                    aspect=one["aspect"], value=value, shown=one["place"], **about,
                )
            )  # fmt: skip
        else:
            rows.append(
                PreferenceRow(
                    left=content.texts[one["left_id"]], right=content.texts[one["right_id"]],
                    left_generator="+".join(by[one["left_id"]]), right_generator="+".join(by[one["right_id"]]),
                    choice=one["choice"] if one["strength"] is None else str(one["strength"]), **about,
                )
            )  # fmt: skip
    return rows


def _writer(workspace: Workspace, study: str, kind: str, form: str, names: bool, ending: str) -> Callable[[], bytes]:
    def write(path: Path) -> object:
        return export_ratings(workspace, study, path, kind=kind, form=form, names=names)

    return lambda: _bytes(ending, write)


def _bytes(ending: str, write: Callable[[Path], object]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"file.{ending}")
        write(path)
        return path.read_bytes()
