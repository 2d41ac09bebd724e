"""What the pages share, the only module besides them that imports Streamlit: workspace, person, and text shown as text.

Text from data and people is escaped by `plain` before it goes into HTML or Markdown: nothing of it is interpreted.
"""

import json
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from functools import wraps
from html import escape
from pathlib import Path
from typing import Any, Literal, Protocol, get_args, get_origin
from urllib.parse import urlencode, urlsplit

import streamlit as st
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from curation import look, meaning, plain, runs
from curation.pairs import Pair, Turn
from curation.review import Card
from curation.store.database import Busy, NotAWorkspace
from curation.store.pairs import RowView
from curation.workspace import Workspace

Act = Callable[..., None]


class Upload(Protocol):
    """A file somebody chose in the browser."""

    name: str

    def getbuffer(self) -> memoryview: ...


ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "data" / "sample.jsonl"
_PAGES: dict[str, dict[str, Any]] = {
    "overview": {"title": "Overview", "default": True},
    "datasets": {"title": "Datasets"},
    "filters": {"title": "Filters"},
    "review": {"title": "Review"},
    "adjudicate": {"title": "Adjudicate"},
    "studies": {"title": "Studies"},
    "rate": {"title": "Rate"},
    "agreement": {"title": "Agreement"},
    "rewards": {"title": "Rewards"},
    "alignment": {"title": "Alignment"},
    "runs": {"title": "Runs"},
}
_ALONE = {"reviewers": "Review", "raters": "Rate"}  # who comes by a link with ?for=..., and the one page they see
_PICTURE = re.compile(r"!\[")


# ---- every page begins with this


def navigate() -> Any:
    """The navigation between pages; returns the page to run."""
    st.session_state["navigated"] = True
    pages = [st.Page(ROOT / "pages" / f"{name}.py", **rest) for name, rest in _PAGES.items()]
    return st.navigation(pages, position="hidden" if alone() else "sidebar")


def alone() -> str:
    """Whose link this session came by, "reviewers" (`/review?for=reviewers`) or "raters" (`/rate?study=NAME&for=raters`),
    which show one queue and nothing else; "" for everybody else.

    A courtesy, not a lock: who is let in at all is for sign-in and the proxy in front to say.
    """
    asked = st.query_params.get("for")
    if asked in _ALONE:
        st.session_state["alone"] = asked
    return str(st.session_state.get("alone", ""))


def for_reviewers() -> bool:
    """Whether this session came by a reviewer's link."""
    return alone() == "reviewers"


def page(title: str, about: str = "") -> Workspace:
    """Title, style and the workspace, with finished runs taken in. No page relies on app.py having run before."""
    if not st.session_state.pop("navigated", False):
        navigate().run()  # a first visit straight to a page runs it without app.py: run it as app.py does, so that
        st.stop()  # its widgets keep their identity in the next run, which comes through app.py
    if alone() and title != _ALONE[alone()]:
        place = f"pages/{_ALONE[alone()].lower()}.py"
        st.switch_page(place, query_params={**st.query_params.to_dict(), "for": alone()})
    st.set_page_config(page_title=f"{title} · Elephant Room", page_icon="🐘", layout="wide")
    st.html(look.STYLE)
    opened = workspace()
    runs.settle(opened)
    st.title(title, anchor=False)
    if about:
        st.caption(about)
    return opened


def folder() -> Path:
    """The workspace's folder: $ELEPHANT_WORKSPACE, else ./workspace."""
    return Path(os.environ.get("ELEPHANT_WORKSPACE", "workspace")).absolute()


def workspace() -> Workspace:
    """The workspace, opened once for all sessions; where it cannot be opened the page ends with the reason."""
    try:
        return _opened(str(folder()))
    except (Busy, NotAWorkspace, OSError) as error:
        st.error(plain.md(str(error)), icon=":material/lock:")
        st.stop()


@st.cache_resource(show_spinner=False)
def _opened(path: str) -> Workspace:
    return Workspace(Path(path))


def signed_in() -> str:
    """Who is here: the account where sign-in is configured, else a name, kept in the address so that a reload keeps it."""
    account = st.user.get("email") if "is_logged_in" in st.user and st.user.is_logged_in else None
    if isinstance(account, str) and account:
        return account
    known = st.session_state.get("person") or st.query_params.get("name")
    if isinstance(known, str) and known.strip():
        st.session_state["person"] = known.strip()
        if st.query_params.get("name") != known.strip():
            st.query_params["name"] = known.strip()
        return known.strip()
    with st.form("who", width=420):
        st.write("Who is here? Your answers are kept under this name; releases show a pseudonym.")
        name = st.text_input("Your name", max_chars=60, key="name-given")
        if st.form_submit_button("Start", type="primary") and name.strip():
            st.session_state["person"] = name.strip()
            st.rerun()
    st.stop()


def chosen_study(opened: Workspace) -> str:
    """The study this session works on: that of the address, else chosen where there are several.

    Who came by a rater's link sees the study the link names and no other.
    """
    names = [name for name, _, _ in opened.studies.all()]
    asked = st.query_params.get("study")
    if alone() == "raters":
        if asked not in names:
            st.info("This link names no study. Please ask for another one.", icon=":material/link_off:")
            st.stop()
        return str(asked)
    if not names:
        st.info("There is no study yet.", icon=":material/inbox:")
        st.page_link("pages/studies.py", label="Set one up", icon=":material/add:")
        st.stop()
    last = asked if asked in names else st.session_state.get("study")
    index = names.index(last) if last in names else len(names) - 1
    name = names[index]
    if len(names) > 1:
        name = st.selectbox("Study", names, index=index, key="study-choice", width=340)
    st.session_state["study"] = name
    st.query_params["study"] = name
    return name


def chosen_dataset(opened: Workspace, *, label: str = "Dataset") -> str:
    """The dataset this session works on, chosen where there are several; without any the page ends with what to do."""
    names = [one.dataset for one in opened.pairs.datasets()]
    if not names:
        st.info("There is no dataset yet.", icon=":material/inbox:")
        st.page_link("pages/datasets.py", label="Import one, or open the sample", icon=":material/upload:")
        st.stop()
    last = st.session_state.get("dataset")
    if last not in names:
        last = st.query_params.get("dataset")
    index = names.index(last) if last in names else len(names) - 1
    name = names[index]
    if len(names) > 1:
        name = st.selectbox(label, names, index=index, key="dataset-choice", width=340)
    st.session_state["dataset"] = name
    return name


def told(act: Callable[..., None]) -> Callable[..., None]:
    """A callback that says what went wrong with saving (a full disk, say) instead of ending in a traceback."""

    @wraps(act)
    def saying(*args: Any) -> None:
        try:
            act(*args)
        except OSError as error:
            st.session_state["told"] = f"{plain.md(str(error))}. Try again when there is room; what was saved before is safe."

    return saying


def attempt(action: Callable[[], object]) -> bool:
    """Do what was asked; a bad value is told in its one sentence instead of a traceback. True when it was done."""
    try:
        action()
    except (ValueError, OSError) as error:
        st.error(plain.md(str(error)))
        return False
    return True


def link(page: str, **query: str) -> str:
    """The address of a page of this app, as this browser sees the app."""
    here = urlsplit(st.context.url or "")
    before = here.path.rsplit("/", 1)[0]  # a proxy may serve the app under a path
    return here._replace(path=f"{before}/{page}", query=urlencode(query), fragment="").geturl()


def paged(rows: Sequence[Mapping[str, object]], *, key: str, size: int = 50, **options: Any) -> None:
    """A table of many rows, some at a time."""
    pages = -(-len(rows) // size)
    number = st.number_input(f"Page, of {pages:,}", 1, pages, 1, key=f"page-{key}", width=160) if pages > 1 else 1
    st.dataframe(rows[(number - 1) * size : number * size], hide_index=True, **options)


def table(rows: Sequence[Mapping[str, object]]) -> None:
    """A few rows of words as a table whose cells wrap, so that nothing of it is out of sight; nothing without rows."""
    if not rows:
        return
    head = "".join(f"<th>{escape(name)}</th>" for name in rows[0])
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(row[name]))}</td>' for name in rows[0])}</tr>" for row in rows)
    st.html(f'<div class="er table"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>')


def turned(rows: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """Rows as columns: each is named by its first cell."""
    named = [(str(next(iter(row.values()))), row) for row in rows]
    return [{"": what, **{name: row.get(what, "") for name, row in named}} for what in (list(rows[0])[1:] if rows else ())]


def mapping_asked(fields: Sequence[str], *, key: str) -> dict[str, str]:
    """Which column to take for which field, where columns are called otherwise."""
    with st.expander("Columns called otherwise"):
        columns = st.columns(4)
        asked = {
            field: columns[place % 4].text_input(field, key=f"{key}-{field}", placeholder=field).strip()
            for place, field in enumerate(fields)
        }
    return {field: column for field, column in asked.items() if column}


_FIELD = 620  # pixels: a line of words over it stays one line


def settings_asked(
    kind: type[BaseModel], *, key: str, without: Collection[str] = (), few: Sequence[str] = ()
) -> dict[str, Any]:
    """A field for each setting of a settings class: the form is made from the one definition. `without` names settings that
    are asked for elsewhere; those in `few` stand first, the rest behind a fold. Returns what was typed, defaults left out."""
    typed: dict[str, Any] = {}
    fields = {name: one for name, one in kind.model_fields.items() if name not in without}
    for name in few:
        typed[name] = _setting_asked(name, fields[name], key=f"{key}-{name}")
    rest = [name for name in fields if name not in few]
    if rest:
        with st.expander("More settings") if few else nullcontext():
            for name in rest:
                typed[name] = _setting_asked(name, fields[name], key=f"{key}-{name}")
    return {name: value for name, value in typed.items() if value not in (None, "") and value != fields[name].default}


def _setting_asked(name: str, field: FieldInfo, *, key: str) -> Any:
    words = plain.md(f"{name}: {field.description}" if field.description else name)
    default = None if field.is_required() else field.default
    if isinstance(default, bool):
        return st.checkbox(words, default, key=key)
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    if choices:
        return st.selectbox(words, choices, index=choices.index(default) if default in choices else 0, key=key, width=_FIELD)
    if isinstance(default, int):
        return st.number_input(words, value=default, step=1, key=key, width=_FIELD)
    if isinstance(default, float):
        return st.number_input(words, value=default, step=None, format="%g", key=key, width=_FIELD)
    if default is None and int in get_args(field.annotation):
        return st.number_input(words, value=None, step=1, key=key, width=_FIELD)
    typed = st.text_input(words, default if isinstance(default, str) else "", key=key, width=_FIELD).strip()
    return json.loads(typed) if typed.startswith(("[", "{")) and _is_json(typed) else typed


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


# ---- text, never interpreted


def show_pair(pair: Pair, *, a: tuple[str, str], b: tuple[str, str], compare: bool = False) -> None:
    """A prompt as chat and two responses side by side, each a name and a text; with `compare` their words' difference."""
    show_responses(pair.prompt, (a, b), compare=compare)


def show_responses(
    prompt: tuple[Turn, ...], sides: Sequence[tuple[str, str | None]], *, compare: bool = False, notes: Sequence[str] = ()
) -> None:
    """A prompt as chat and responses side by side, each a name and a text; None where the text is not known. `notes` holds a
    line to stand under each name."""
    st.html(f'<div class="er">{plain.prompt(prompt)}{plain.sides(sides, compare=compare, notes=notes)}</div>')


def show_answer(prompt: str, response: str) -> None:
    """A prompt that is one text, as a policy reads it, and what was answered."""
    asked = f'<details class="earlier"><summary>its prompt</summary>{plain.html(prompt)}</details>'
    st.html(f'<div class="er">{asked}{plain.html(response)}</div>')


def show_guidelines(text: str) -> None:
    """Guidelines as Markdown; pictures are not loaded, since that would tell another server who reads them."""
    st.markdown(_PICTURE.sub(r"\\!\\[", text) if text.strip() else "*No guidelines were written for this study.*")


def show_card(card: Card, *, labels: bool, compare: bool) -> None:
    """A reviewer's card; the labels are hidden unless the study lead shows them."""
    named = {"A": "A", "B": "B"}
    if labels:
        other = "B" if card.claim.chosen_shown == "A" else "A"
        named = {card.claim.chosen_shown: f"{card.claim.chosen_shown} · chosen", other: f"{other} · rejected"}
    show_pair(card.pair, a=(named["A"], card.a), b=(named["B"], card.b), compare=compare)


def pick_row(rows: Sequence[RowView], *, key: str, before: Sequence[Mapping[str, object]] = ()) -> int | None:
    """Rows of a dataset as a table in which one can be ticked; returns its place. `before` holds cells to begin each with."""
    shown = []
    for number, one in enumerate(rows):
        cells = dict(before[number]) if before else {}
        cells |= {"row": one.row} | ({"subset": one.subset} if any(other.subset for other in rows) else {})
        cells |= {"flags": ", ".join(one.filters), "verdicts": ", ".join(one.verdicts)}
        cells |= {"asked": one.asked[:300], "chosen": one.chosen[:300], "rejected": one.rejected[:300]}
        shown.append(cells)
    columns: dict[str, Any] = {name: st.column_config.TextColumn(width="medium") for name in ("asked", "chosen", "rejected")}
    columns |= {name: st.column_config.NumberColumn(format="%.2f") for name in ("near", "strength", "sd")}
    picked = st.dataframe(
        shown, hide_index=True, on_select="rerun", selection_mode="single-row", column_config=columns, key=key
    )
    chosen = picked["selection"]["rows"]
    return int(chosen[0]) if chosen else None


def pick_near(found: Sequence[meaning.Near], *, key: str) -> int | None:
    """Pairs found by meaning, the nearest first, as a table in which one can be ticked."""
    before = [{"near": round(one.similarity, 2), "by its": one.where} for one in found]
    return pick_row([one.row for one in found], key=key, before=before)


def show_neighbours(opened: Workspace, dataset: str, pair_id: str) -> None:
    """The pairs of the dataset most like this one, and the one that is ticked."""
    try:
        with st.spinner("Comparing meanings"):
            found = meaning.neighbours(opened, dataset, pair_id)
    except meaning.NotRead as error:
        not_read(str(error))
        return
    if not found:
        st.caption("There is no other pair.")
        return
    picked = pick_near(found, key=f"neighbours-{pair_id}")
    if picked is not None:
        pair = opened.pairs.pair(found[picked].row.pair_id)
        show_pair(pair, a=("chosen", pair.chosen.text), b=("rejected", pair.rejected.text))


def not_read(words: str) -> None:
    """What to do where the texts have no embeddings yet."""
    st.info(plain.md(words), icon=":material/filter_alt:")
    st.page_link("pages/filters.py", label="Screen the dataset", icon=":material/play_arrow:")


def show_reasons(found: list[dict[str, object]], *, sides: dict[str, str] | None = None) -> None:
    """What the filters say of a pair, as a list; `sides` renames chosen and rejected where they must stay hidden."""
    st.html(plain.reasons(found, sides=sides))


def note_key() -> None:
    """`n` puts the cursor into the card's note at once, without waiting for the server: what is typed next belongs in
    the note and must not be taken for keys that decide, not even while the next card is being drawn."""
    st.html(f"<script>{look.NOTE_KEY}</script>", unsafe_allow_javascript=True)


def answer_keys() -> None:
    """No press of a key or button that decides counts before what it answers was painted, nor while a key is held down; an
    undo counts at once. Enter and Space press the button that was gone to by Tab."""
    st.html(f"<script>{look.ANSWER_KEYS}</script>", unsafe_allow_javascript=True)


def focus_note() -> None:
    """Put the cursor into the card's note."""
    st.html("<script>window.elephantNote && window.elephantNote()</script>", unsafe_allow_javascript=True)


def duration(seconds: float | None) -> str:
    """Seconds for a person: "8 s", "3 min", "2 h 5 min"; "none yet" for None."""
    if seconds is None:
        return "none yet"
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 1 else "under 1 s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def memory(size: int | None) -> str:
    """Bytes for a person: "1.2 GB"; "unknown" for None."""
    return "unknown" if size is None else f"{size / 1e9:.1f} GB"
