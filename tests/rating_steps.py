"""A study made, an item taken, filled and submitted: the steps that tests of rating share."""

from contextlib import closing, contextmanager

from curation import rating, studies, study_items
from curation.outputs import ItemResponse, ItemRow
from curation.pairs import turn
from curation.rating import Halt, Outcome
from curation.study_design import Design
from curation.workspace import Workspace

RATE = Design(gold_share=0, overlap=1)
COMPARE = RATE.model_copy(update={"protocol": "compare"})
BOTH = Design(protocol="both", aspects=studies.aspects_named(["helpfulness", "overall"]), gold_share=0, overlap=1)


def row(number, *, responses=2, **more):
    """An item of a file; prompt and responses say which they are."""
    kind = {"subset": "", "kind": "item", "expected": None, "explanation": "", **more}
    texts = tuple(ItemResponse("abcdef"[k], f"{'abcdef'[k]} on {number}") for k in range(responses))
    return ItemRow(number + 1, f"item {number}", (turn("user", f"question {number}"),), texts, **kind)


def make(workspace, design=RATE, *, items=6, study="one", rows=()):
    """A study of so many items and these rows; returns the ids of its items in order."""
    studies.create(workspace, study, design, "lead")
    given = study_items.from_rows(study, [*(row(n) for n in range(items)), *rows])
    studies.add_items(workspace, study, given, "lead", words="by hand")
    return [one.item_id for one in given]


def redesign(workspace, **changes):
    design = studies.design_of(workspace, "one").model_copy(update=changes)
    studies.change(workspace, "one", design, "lead")


def take(workspace, person, **how):
    return rating.next_card(workspace, "one", person, **how)


def fill(workspace, card, value=1):
    """Press a key for every question: the same, or what a function says of the card and the question."""
    for number, one in enumerate(card.questions):
        key = value(card, one) if callable(value) else value
        pressed = rating.press(workspace, card.claim.claim_id, card.claim.person, card.version + number, one.key, key)
        assert pressed == Outcome.RECORDED


def submit(workspace, card):
    return rating.submit(workspace, card.claim.claim_id, card.claim.person)


def press(workspace, card, key, value):
    """Press as a page does: with the version of the card as it is now."""
    now = rating.card_of(workspace, card.claim)
    assert rating.press(workspace, card.claim.claim_id, card.claim.person, now.version, key, value) == Outcome.RECORDED


def answer(workspace, person, value=1, **how):
    """Take the next item and answer it; returns its id, or the Halt."""
    card = take(workspace, person, **how)
    if isinstance(card, Halt):
        return card
    fill(workspace, card, value)
    assert submit(workspace, card) == Outcome.RECORDED
    return card.item.item_id


def everything(workspace, person, value=1):
    """Answer all there is; returns the items in the order in which they came."""
    done = []
    while isinstance(item := answer(workspace, person, value), str):
        done.append(item)
    assert item == Halt("done")
    return done


def standing(workspace):
    return [(one.item_id, one.person) for one in workspace.answers.standing()]


@contextmanager
def again(workspace):
    """The same workspace after the process has ended and started again."""
    workspace.close()
    with closing(Workspace(workspace.folder, clock=workspace.clock)) as opened:
        yield opened


def meaning(wanted):
    """The key by which a card says what is meant: {text: value}, and under "" the better text, or tie, or both bad."""

    def key(card, question):
        if question.response:
            return wanted[card.texts[question.place]]
        return 1 + [*card.texts, "tie", "both bad"].index(wanted[""])

    return key
