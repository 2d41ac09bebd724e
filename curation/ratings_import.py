"""Ratings and preferences from files into a study: items, scales, answers; what cannot be used is named."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from curation import ratings_files, studies, tables
from curation.outputs import KINDS
from curation.pairs import Response, Turn, named, prompt_id_of, response_id_of
from curation.ratings_rows import NAMES, OVERALL, PreferenceRow, RatingRow, Row, prompt_of
from curation.store.answers import Answered
from curation.store.studies import NewItem, NewResponse, StudyEvent
from curation.study_design import CHOICES, COMPARISON, Choice, Design, Found, Marks, choice_of_strength, other_side
from curation.workspace import Workspace

FIELDS = tuple(NAMES)


class Taken(NamedTuple):
    """What a file brought. `unused` are the records that could not be used, with their reasons."""

    ratings: int
    preferences: int
    items: int
    raters: int
    new: int
    answers: int
    form: str
    columns: Mapping[str, str]
    unused: list[tuple[int, str]]

    def words(self) -> str:
        """For people."""
        said = (
            f"{self.ratings:,} ratings and {self.preferences:,} preferences by {self.raters:,} raters on {self.items:,} items "
            f"({self.form} form): {self.new:,} of {self.answers:,} answers are new."
        )
        if self.columns:
            said += " Read as: " + ", ".join(f"{field} from {column}" for field, column in self.columns.items()) + "."
        if self.unused:
            line, reason = self.unused[0]
            said += f" {len(self.unused):,} records were not used, the first on line {line}: {reason}"
        return said


def import_ratings(
    workspace: Workspace, study: str, path: Path, *, person: str, form: str = "auto", mapping: Mapping[str, str] = {},
    scale: Sequence[str] = (), texts: Path | None = None,
) -> Taken:  # fmt: skip
    """Take in ratings and preferences; a study that is not there yet is made, closed, for what the file holds.

    `scale` are the words of values that are words, the lowest first. `texts` is a file with item, prompt and response, for
    ratings that come without. The same file twice changes nothing. Raises ValueError, and takes nothing, when the file
    cannot be read or its values fit no scale; a record that cannot be used is named and loses no other.
    """
    read = ratings_files.read(path, form=form, mapping=mapping)
    rows, unused = _last_said(read.rows)
    unused += [(one.line, one.reason) for one in read.unused]
    known = study in {name for name, _, _ in workspace.studies.all()}
    design = studies.design_of(workspace, study) if known else None
    if texts is not None:
        rows = _with_texts(rows, texts)
    scaled, scales, off = _on_scale(rows, design, list(scale))
    unused += off
    taking = _Taking(workspace, study, workspace.clock())
    rows = []
    for row, value in scaled:
        try:
            taking.take(row, value)
            rows.append(row)
        except ValueError as error:
            unused.append((row.line, str(error)))
    if not rows:
        reason = f": line {unused[0][0]}: {unused[0][1]}" if unused else ""
        raise ValueError(f"{path.name!r} has no rating and no preference that can be used{reason}")
    _make_room(workspace, study, design, scales, rows, person)
    words = f"ratings of {path.name}"
    event = StudyEvent(study, "items", "", _detail(words, taking.items), person, taking.at) if taking.fresh() else None
    workspace.studies.add_items(study, taking.items.values(), event)
    answers = taking.answers()
    new = workspace.answers.add(answers)
    if unused:
        workspace.studies.add_rejects(study, path.name, sorted(unused), workspace.clock())
    workspace.raters.reload()
    ratings = sum(isinstance(one, RatingRow) for one in rows)
    raters = len({one.rater for one in rows})
    columns = {field: column for field, column in read.columns.items() if field != column}
    return Taken(
        ratings, len(rows) - ratings, len({one.item_id for one in answers}), raters, new, len(answers), read.form, columns,
        sorted(unused),
    )  # fmt: skip


def _detail(words: str, items: Mapping[str, NewItem]) -> str:
    return json.dumps({"from": words, "items": Counter(one.kind for one in items.values())}, ensure_ascii=False)


def _last_said(rows: Sequence[Row]) -> tuple[list[Row], list[tuple[int, str]]]:
    """Of what one rater says twice about the same, the last; the earlier ones are named."""
    last: dict[tuple[Any, ...], Row] = {}
    unused = []
    for row in rows:
        key = _about(row)
        if key in last:
            unused.append((last[key].line, f"{row.rater} says this again on line {row.line}, which stands"))
            del last[key]
        last[key] = row
    return list(last.values()), unused


def _about(row: Row) -> tuple[Any, ...]:
    if isinstance(row, RatingRow):
        return row.item, row.prompt, row.response, row.generator, row.rater, row.aspect
    sides = frozenset([(row.left, row.left_generator), (row.right, row.right_generator)])
    return row.item, row.prompt, sides, row.rater, row.aspect


def _on_scale(
    rows: Sequence[Row], design: Design | None, scale: list[str]
) -> tuple[list[tuple[Row, float]], dict[str, Found], list[tuple[int, str]]]:
    """Rows with their values as numbers (0 for a preference), the scales they came on, and the rows that do not fit."""
    asked = {one.name: one for one in design.aspects} if design else {}
    ends = [_number(one) for one in scale]
    lowest, highest = (ends[0], ends[-1]) if ends and None not in ends else (None, None)
    if lowest is not None:
        scale = []  # the ends of a scale of numbers, not words
    words = _words_of(rows, {one.name: one.words for one in design.found} if design else {}, asked, scale)
    scaled: list[tuple[Row, float]] = []
    off: list[tuple[int, str]] = []
    for row in rows:
        if isinstance(row, PreferenceRow):
            if row.aspect != OVERALL and not row.aspect.startswith("turn "):
                off.append((row.line, f"a comparison on {row.aspect!r}: only comparisons of the whole response are kept"))
            else:
                scaled.append((row, 0.0))
            continue
        if row.aspect == COMPARISON:
            off.append(
                (row.line, f"a value of {COMPARISON!r}, a name kept for comparisons: expected an aspect called otherwise")
            )
            continue
        value, native, known = _number(row.value), asked.get(row.aspect), words[row.aspect]
        if known:
            value = float(known.index(row.value) + 1) if row.value in known else None
        if value is None or not math.isfinite(value):
            off.append(
                (row.line, f"the value is {row.value!r}: expected {'one of ' if known else ''}{', '.join(known) or 'a number'}")
            )
        elif native is None and lowest is not None and highest is not None and not known and not lowest <= value <= highest:
            off.append((row.line, f"the value of {row.aspect} is {row.value}: expected {lowest:g} to {highest:g}"))
        elif native is not None and (value != int(value) or not 1 <= value <= native.points):
            off.append((row.line, f"the value of {row.aspect} is {row.value}: this study's scale has 1 to {native.points}"))
        else:
            scaled.append((row, value))
    scales = {}
    for aspect, known in words.items():
        given = [value for row, value in scaled if isinstance(row, RatingRow) and row.aspect == aspect]
        if given and aspect not in asked:
            low, high = (1.0, float(len(known))) if known else (min(given), max(given))
            if not known and lowest is not None and highest is not None:
                low, high = lowest, highest
            scales[aspect] = Found(name=aspect, low=low, high=high, words=known)
    return scaled, scales, off


def _words_of(
    rows: Sequence[Row], known: Mapping[str, tuple[str, ...]], asked: Collection[str], scale: list[str]
) -> dict[str, tuple[str, ...]]:
    """The words of each aspect's scale, the lowest first; none where all its values are numbers, or should be."""
    seen: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if isinstance(row, RatingRow):
            seen[row.aspect].add(row.value)
    found = {}
    for aspect, values in seen.items():
        found[aspect] = known.get(aspect, ())
        some = [one for one in values if _number(one) is None]
        # where most are numbers, a word is a mistake in its row
        numbers = aspect in known or (aspect in asked and len(some) < len(values)) or 2 * len(some) <= len(values)
        if some and not found[aspect] and not numbers:
            if not scale:
                listed = sorted(values)
                raise ValueError(
                    f"the values of {aspect!r} are words ({', '.join(listed[:6])}): give their order, the lowest first, as in "
                    f"--scale {','.join(listed[:3])}"
                )
            found[aspect] = tuple(scale)
    return found


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _with_texts(rows: Sequence[Row], path: Path) -> list[Row]:
    """Rows with the prompt and the response that a file has for their item."""
    texts: dict[tuple[str, str], tuple[tuple[Turn, ...] | None, str | None]] = {}
    for record in tables.read(path):
        item = next((record[name] for name in NAMES["item"] if name in record), None)
        prompt = next((record[name] for name in NAMES["prompt"] if name in record), None)
        response = next((record[name] for name in NAMES["response"] if name in record), None)
        generator = next((record[name] for name in NAMES["generator"] if record.get(name)), "")
        if item is not None:
            found_text = (None if prompt is None else prompt_of(prompt), None if response is None else str(response))
            if texts.setdefault((str(item), str(generator)), found_text) != found_text:
                raise ValueError(f"{str(path)!r} has two texts for item {str(item)!r}: expected one, or a generator for each")
    if not texts:
        raise ValueError(f"{str(path)!r} names no item: expected records with item, prompt and response")

    def of(row: Row, generator: str) -> tuple[tuple[Turn, ...] | None, str | None]:
        return texts.get((row.item, generator)) or texts.get((row.item, "")) or (None, None)

    found: list[Row] = []
    for row in rows:
        first = row.generator if isinstance(row, RatingRow) else row.left_generator
        prompt, response = of(row, first)
        if row.prompt is None:
            row = row._replace(prompt=prompt)
        if isinstance(row, RatingRow):
            found.append(row if row.response is not None else row._replace(response=response))
        else:
            left = row.left if row.left is not None else response
            right = row.right if row.right is not None else of(row, row.right_generator)[1]
            found.append(row._replace(left=left, right=right))
    return found


def _make_room(
    workspace: Workspace, study: str, design: Design | None, scales: Mapping[str, Found], rows: Sequence[Row], person: str
) -> None:
    """A study for the ratings where there is none, else the scales they bring beside those it has."""
    if design is None:
        rated = any(isinstance(one, RatingRow) for one in rows)
        compared = any(isinstance(one, PreferenceRow) for one in rows)
        raters: dict[Any, set[str]] = defaultdict(set)
        for row in rows:
            raters[row.item, row.prompt].add(row.rater)
        overlap = min(100, max(len(one) for one in raters.values()))
        design = Design(
            protocol="both" if rated and compared else "compare" if compared else "rate", aspects=(), overlap=overlap,
            found=tuple(scales.values()), comparison="strength" if compared and _all_strengths(rows) else "choice",
        )  # fmt: skip
        studies.create(workspace, study, design, person)
        studies.close(workspace, study, person)
        return
    known = {one.name: one for one in design.found}
    for name, one in scales.items():
        before = known.get(name)
        if before is not None and not one.words:
            one = Found(name=name, low=min(before.low, one.low), high=max(before.high, one.high))
        known[name] = one
    studies.change(workspace, study, design.model_copy(update={"found": tuple(known.values())}), person)


def _all_strengths(rows: Sequence[Row]) -> bool:
    return all(one.choice not in CHOICES for one in rows if isinstance(one, PreferenceRow))


class _Taking:
    """Rows on their way to items and answers: an answer is what one rater says about one item."""

    def __init__(self, workspace: Workspace, study: str, at: datetime) -> None:
        self.study, self.at, self._workspace = study, at, workspace
        self.items: dict[str, NewItem] = {}
        known = study in {name for name, _, _ in workspace.studies.all()}
        self._known = dict(workspace.studies.items(study)) if known else {}
        self._names = {item.name: item_id for item_id, item in self._known.items() if item.name}
        self._generators = workspace.studies.generators(study) if known else {}
        self._claims = workspace.answers.claims_of(study) if known else set()
        self._by_content: dict[str, list[str]] = defaultdict(list)  # items by response
        for item_id, item in self._known.items():
            for response_id in item.responses:
                self._by_content[response_id].append(item_id)
        self._stands = _what_stands(workspace, study) if known else {}
        self._behind = {pseudonym: one for one, pseudonym in workspace.releases.pseudonyms().items()}
        self._ratings: dict[tuple[str, str, str], list[tuple[str, str, float]]] = defaultdict(list)
        self._preferences: dict[tuple[str, str, str], list[tuple[str, str, Choice, int | None]]] = defaultdict(list)
        self._rows: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
        self._raters: set[str] = set()
        self._said: dict[tuple[str, ...], tuple[int, object]] = {}
        self._shown: dict[tuple[str, str, str], dict[str, int]] = defaultdict(dict)

    def fresh(self) -> bool:
        """Whether there is an item the study does not have."""
        return any(item_id not in self._known for item_id in self.items)

    def take(self, row: Row, value: float) -> None:
        """Note what a row says. Raises ValueError, and notes nothing, when its item is another one than its prompt says."""
        if isinstance(row, RatingRow):
            item_id, (response_id,) = self._place(row, [(row.generator, row.response)])
            key = (item_id, row.rater, row.claim)
            self._check_new(row, (item_id, response_id, row.aspect), value)
            self._ratings[key].append((response_id, row.aspect, value))
            if row.shown:
                self._shown[key][response_id] = row.shown
        else:
            item_id, (left, right) = self._place(row, [(row.left_generator, row.left), (row.right_generator, row.right)])
            key = (item_id, row.rater, row.claim)
            if left == right:
                raise ValueError("both sides are the same response: there is nothing to compare")
            said = (left, *_choice(row)) if left < right else (right, *_turned(*_choice(row)))
            self._check_new(row, (item_id, *sorted((left, right))), said)
            self._preferences[key].append((left, right, *_choice(row)))
            if row.claim:  # an export of ours: elsewhere left and right are columns, not an order anybody saw
                self._shown[key] |= {left: 1, right: 2}
        self._rows[key].append(row)
        self._raters.add(row.rater)

    def _check_new(self, row: Row, about: tuple[str, ...], said: object) -> None:
        """Raises ValueError where the rater says something else of the same: two generators may have written one text."""
        line, before = self._said.setdefault((row.rater, *about), (row.line, said))
        if before != said:
            raise ValueError(f"{row.rater} says another thing of the same text on line {line}: expected one value")

    def answers(self) -> list[Answered]:
        """The answers, each named by what it says, so that the same file twice brings nothing new.

        Nor does a study's own export in a form without claims: an answer that stands as it is keeps its claim. Under a
        pseudonym it must be all the answers of that person, since elsewhere the same pseudonym is somebody else.
        """
        found = []
        said = {key: Marks(tuple(self._ratings[key]), tuple(self._preferences[key])) for key in self._rows}
        own = {
            rater: [key for key in said if key[1] == rater and not key[2]] for rater in self._behind if rater in self._raters
        }
        behind = {
            rater: self._behind[rater]
            for rater, keys in own.items()
            if all(self._claim_of(key[0], self._behind[rater], said[key]) for key in keys)
        }
        for key, rows in self._rows.items():
            item_id, rater, claim = key
            marks = said[key]
            claim = claim or self._claim_of(item_id, behind.get(rater, rater), marks)
            if claim not in self._claims:
                claim = named(
                    "imported", self.study, item_id, rater, claim, repr(sorted(marks.ratings)), repr(marks.preferences)
                )
                while claim in self._claims and not self._claim_of(item_id, rater, marks):
                    claim = named("again", claim)  # it came before, and something else has come since
            places = self._shown[key]
            shown = tuple(sorted(places, key=lambda one: places[one]))
            seconds = [one.seconds for one in rows if one.seconds is not None]
            note = "\n".join(dict.fromkeys(one.note for one in rows if one.note))
            at = max((one.at for one in rows if one.at is not None), default=self.at)
            about = (claim, self.study, item_id, rater, "imported", shown, marks)
            found.append(Answered(*about, max(seconds) if seconds else None, note, (), at))
        return found

    def _claim_of(self, item_id: str, person: str, marks: Marks) -> str:
        """The claim under which a person said all this of an item already, "" where there is none."""
        stands = self._stands.get((item_id, person), {})
        claims = [stands.get(mark, "") for mark in (*marks.ratings, *marks.preferences)]
        return claims[0] if all(claims) else ""

    def _place(self, row: Row, sides: Sequence[tuple[str, str | None]]) -> tuple[str, list[str]]:
        """The item a row is about and its responses' ids; the item is noted as one to store, with responses it lacks."""
        item_id = self._item_of(row, sides)
        stored, before = self._known.get(item_id), self.items.get(item_id)
        prompt = row.prompt or ()
        if stored is not None and row.prompt is None:
            prompt = self._workspace.studies.content(item_id).prompt
        prompt_id = prompt_id_of(prompt)
        if (stored and stored.prompt_id != prompt_id) or (before and before.prompt != prompt):
            raise ValueError(f"item {row.item!r} came with another prompt before: expected one prompt an item")
        ids, new = [], []
        for generator, text in sides:
            own = self._by_generator(item_id, generator) if text is None else None
            turn = row.aspect if isinstance(row, PreferenceRow) and row.aspect != OVERALL else ""
            response = _response(row.item, generator, text, turn)
            ids.append(own or response_id_of(prompt_id, response.response))
            if own is None and (stored is None or ids[-1] not in stored.responses):
                new.append(response)
        if new and stored and not self._imported(item_id):
            raise ValueError(f"item {row.item!r} has no such response: expected one that raters of this study are shown")
        if stored is None or new:
            have = before.responses if before else ()
            more = tuple(one for one in dict.fromkeys(new) if one not in have)
            kind = row.kind if row.kind in KINDS else "item"
            self.items[item_id] = NewItem(item_id, row.item, prompt, (*have, *more), row.subset, kind)
        return item_id, ids

    def _imported(self, item_id: str) -> bool:
        """Whether an item of the study came with ratings, and not as one to put before raters."""
        item = self._known[item_id]
        return item_id in {named("item", self.study, "imported", one) for one in (item.name or item.prompt_id, *item.responses)}

    def _item_of(self, row: Row, sides: Sequence[tuple[str, str | None]]) -> str:
        """The study's item that a row is about, by id, name or content, else the id of a new one."""
        if row.item in self._known:
            return row.item
        if row.item in self._names:
            return self._names[row.item]
        prompt_id = prompt_id_of(row.prompt or ())
        if not row.item:
            ids = [response_id_of(prompt_id, Response(text)) for _, text in sides if text is not None]
            some = [item_id for one in ids for item_id in self._by_content.get(one, ())]
            whole = [item_id for item_id in some if set(ids) <= set(self._known[item_id].responses)]
            for item_id in [*whole, *filter(self._imported, some)]:
                return item_id
        alone = "" if row.prompt else next((response_id_of(prompt_id, Response(text)) for _, text in sides if text), "")
        return named("item", self.study, "imported", row.item or alone or prompt_id)

    def _by_generator(self, item_id: str, generator: str) -> str | None:
        writers = self._generators.get(item_id, {})
        return next((one for one, names in writers.items() if generator in names), None)


def _what_stands(workspace: Workspace, study: str) -> dict[tuple[str, str], dict[tuple[Any, ...], str]]:
    """What everybody said of every item, each mark with the claim it was made under."""
    found: dict[tuple[str, str], dict[tuple[Any, ...], str]] = defaultdict(dict)
    for one in workspace.answers.ratings(study):
        found[one["item_id"], one["person"]][one["response_id"], one["aspect"], one["value"]] = one["claim_id"]
    for one in workspace.answers.preferences(study):
        found[one["item_id"], one["person"]][one["left_id"], one["right_id"], one["choice"], one["strength"]] = one["claim_id"]
    return found


def _response(item: str, generator: str, text: str | None, turn: str) -> NewResponse:
    if text is None:  # its id must differ from that of every real response, above all of an empty one
        what = f"{item}/{generator}/{turn}" if turn else f"{item}/{generator}"
        return NewResponse(generator, Response("", f"(not given: {what})"), given=False)
    return NewResponse(generator, Response(text))


def _turned(choice: Choice, strength: int | None) -> tuple[Choice, int | None]:
    return other_side(choice), None if strength is None else -strength


def _choice(row: PreferenceRow) -> tuple[Choice, int | None]:
    if row.choice in CHOICES:
        return next(one for one in CHOICES if one == row.choice), None
    return choice_of_strength(int(row.choice)), int(row.choice)
