"""Studies for tests: items written by hand, and raters who answer through the real functions."""

from collections.abc import Callable, Mapping, Sequence

from curation import rating, studies, study_items
from curation.outputs import ItemResponse, ItemRow
from curation.pairs import Response, prompt_id_of, response_id_of, turn
from curation.rating import Card, Halt, Outcome
from curation.store.studies import Item
from curation.study_design import COMPARISON, Design, Question
from curation.workspace import Workspace

KEYS = {"left": 1, "right": 2, "tie": 3, "both bad": 4}


def item(
    number: int, responses: Mapping[str, str] | None = None, *, prompt: str | None = None, name: str = "", **more
) -> ItemRow:
    """An item as a file gives it; by default two responses, of a and b, that say which they are."""
    rest = {"subset": "", "kind": "item", "expected": None, "explanation": "", **more}
    texts = responses or {"a": f"answer {number} of a", "b": f"answer {number} of b"}
    asked = (turn("user", prompt or f"question {number}"),)
    return ItemRow(number + 1, name, asked, tuple(ItemResponse(who, text) for who, text in texts.items()), **rest)


def set_up(workspace: Workspace, rows: Sequence[ItemRow], name: str = "one", **design) -> str:
    """A study of these items, without gold items mixed in by chance."""
    studies.create(workspace, name, Design(**{"gold_share": 0, "overlap": 3, **design}), "lead")
    if rows:
        studies.add_items(workspace, name, study_items.from_rows(name, rows), "lead", words="by hand")
    return name


def answer(workspace: Workspace, study: str, person: str, says: Callable[[Card, Question], int], *, wait=None) -> Item | None:
    """One item answered key by key, as `says` tells; returns it, None when there is nothing left."""
    card = rating.next_card(workspace, study, person)
    if isinstance(card, Halt):
        return None
    if wait is not None:
        wait(card)
    for number, question in enumerate(card.questions, start=card.version):
        pressed = says(card, question)
        assert rating.press(workspace, card.claim.claim_id, person, number, question.key, pressed) == Outcome.RECORDED
    assert rating.submit(workspace, card.claim.claim_id, person) == Outcome.RECORDED
    return card.item


def answer_all(workspace: Workspace, study: str, person: str, says: Callable[[Card, Question], int], *, wait=None) -> int:
    """Everything that is left for this rater; returns how many items that were."""
    count = 0
    while answer(workspace, study, person, says, wait=wait) is not None:
        count += 1
    return count


def by_text(values: Mapping[str, Mapping[str, int]] | Mapping[str, int], better: Mapping[str, str] | None = None):
    """Keys by the text of a response (and the aspect, where values are given by aspect), and by prompt the better text.

    `better` may also say "tie" or "both bad".
    """

    def says(card: Card, question: Question) -> int:
        if question.aspect == COMPARISON and not question.response:
            wanted = (better or {})[card.prompt[-1].content]
            return KEYS.get(wanted) or 1 + card.texts.index(wanted)
        value = values[card.texts[question.place] or ""]
        return value if isinstance(value, int) else value[question.aspect]

    return says


def id_of(prompt: str, text: str) -> str:
    """A response's id, as pairs have it."""
    return response_id_of(prompt_id_of((turn("user", prompt),)), Response(text))
