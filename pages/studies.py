"""Studies: set up a human evaluation, watch it, settle what raters dispute, take ratings in and out."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import streamlit as st

from curation import people, plain, ratings_export, ratings_import, studies, study_disputes, study_items, study_numbers, ui
from curation.stats import sample_size
from curation.study_design import READY, REASONS, Design, Marks
from curation.study_items import STRATA, Drawn, Sample

opened = ui.page("Studies", "People rate and compare responses; here you set that up and watch it.")
person = ui.signed_in()
state = st.session_state
VIEWS = ["Progress", "Raters", "Items", "Disputed", "Design", "In and out"]
SOURCES = ["A dataset", "A release", "Policies", "Outputs of generators", "A file of items", "Nothing yet"]


# ---- a new study


def new_study() -> None:
    name = st.text_input("Name", max_chars=studies.NAME_LENGTH, key="new-name")
    design = design_asked(Design(), key="new")
    source = st.radio("What is rated", SOURCES, key="new-source", horizontal=True)
    draw = items_asked(source, key="new")
    if st.button("Create", type="primary", key="create", icon=":material/add:") and design is not None:
        wanted = design
        if ui.attempt(lambda: begin(name, wanted, draw)):
            st.query_params["study"] = state["study"] = name.strip()
            state.update({"view": "Progress", "next-place": "Watch a study"})
            st.rerun()


def begin(name: str, design: Design, draw: "Draw") -> None:
    """Make a study with its items; nothing is made of bad input."""
    found = draw(name.strip(), design)
    for one in found:
        studies.check_items(design, one.items)
    studies.create(opened, name, design, person)
    state["told"] = added(name.strip(), found) or f"{name.strip()} is ready."


def design_asked(now: Design, *, key: str) -> Design | None:
    """The fields of a design; None, with the reason, while they do not fit together."""
    protocols = {"rate": "Rate each response", "compare": "Compare two responses", "both": "Both"}
    protocol = st.segmented_control(
        "Raters", list(protocols), format_func=protocols.get, default=now.protocol, required=True, key=f"{key}-protocol"
    )
    aspects: list[dict[str, object]] = []
    if protocol != "compare":
        st.caption(
            "What each response is rated on: up to 6 aspects; words for the lowest and the highest value, or for each, with |."
        )
        ready = []
        if key == "new":
            ready = st.multiselect("Ready aspects", list(READY), default=["helpfulness"], key=f"{key}-ready")
        kept = now.aspects if key != "new" else [READY[name] for name in ready]
        edited = st.data_editor(
            studies.aspect_rows(kept), num_rows="dynamic", hide_index=True, key=f"{key}-aspects-{'-'.join(ready)}",
            column_config={"points": st.column_config.NumberColumn(min_value=2, max_value=7, step=1, default=5)},
        )  # fmt: skip
        aspects = studies.aspects_of_rows(edited)
    comparison, question = now.comparison, now.question
    if protocol != "rate":
        forms = {"choice": "A, B, tie, both bad", "strength": "7 points, from A much better to B much better"}
        comparison = st.segmented_control(
            "Comparison", list(forms), format_func=forms.get, default=now.comparison, required=True, key=f"{key}-comparison"
        )
        question = st.text_input("Asked of two responses", now.question, key=f"{key}-question")
    guidelines = st.text_area("Guidelines (Markdown)", now.guidelines, key=f"{key}-guidelines", height=140)
    fields = Design.model_fields
    with st.expander("Raters, gold items, pauses"):
        columns = st.columns(3)
        with columns[0]:
            overlap = st.number_input("Raters for each item", 1, 100, now.overlap, key=f"{key}-overlap")
            most = st.number_input(
                "…at most, where they disagree", 0, 100, now.raters_at_most, key=f"{key}-most",
                help=fields["raters_at_most"].description,
            )  # fmt: skip
            below = st.number_input(
                "…asked below an agreement of", 0.0, 1.0, float(now.extra_below), 0.05, key=f"{key}-below",
                help=fields["extra_below"].description,
            )  # fmt: skip
        with columns[1]:
            gold = st.number_input(
                "Share of gold and attention items", 0.0, 0.5, float(now.gold_share), 0.01, key=f"{key}-gold",
                help=fields["gold_share"].description,
            )  # fmt: skip
            fast = st.number_input(
                "Pause raters faster than, seconds", 0.0, 600.0, float(now.pause_seconds), key=f"{key}-fast",
                help=fields["pause_seconds"].description,
            )  # fmt: skip
            failed = st.number_input(
                "Pause raters after failed gold items", 0, 50, now.pause_gold, key=f"{key}-failed",
                help=fields["pause_gold"].description,
            )  # fmt: skip
        with columns[2]:
            reasons = st.multiselect(
                "Reasons to tick", sorted({*REASONS, *now.reasons}), default=list(now.reasons), accept_new_options=True,
                key=f"{key}-reasons",
            )  # fmt: skip
            notes = st.checkbox("Notes", now.notes, key=f"{key}-notes")
            at_once = st.checkbox("Submit with the last value, without Enter", now.at_once, key=f"{key}-at-once")
            minutes = st.number_input(
                "A claim lasts at least, minutes", 0.01, 1440.0, float(now.least_claim_minutes), key=f"{key}-minutes"
            )
    values = {
        "guidelines": guidelines, "protocol": protocol, "aspects": aspects, "comparison": comparison, "question": question,
        "reasons": list(reasons), "notes": notes, "at_once": at_once, "overlap": overlap, "raters_at_most": most,
        "extra_below": below, "gold_share": gold, "pause_seconds": fast, "pause_gold": failed, "least_claim_minutes": minutes,
    }  # fmt: skip
    values["found"] = [one.model_dump() for one in now.found]
    if protocol == "compare":
        values["aspects"] = [one.model_dump() for one in now.aspects]
    try:
        return studies.design_from(values)
    except ValueError as error:
        st.warning(plain.md(str(error)), icon=":material/error:")
        return None


Draw = Callable[[str, Design], list[Drawn]]


def items_asked(source: str | None, *, key: str) -> Draw:
    """The fields for what is rated; returns what draws the items for a study of this name and design."""
    names = [one.dataset for one in opened.pairs.datasets()]
    release = None
    dataset = None
    uploads: list[ui.Upload] = []
    writers: list[str] = []
    if source in SOURCES[:2]:
        if not names:
            st.info("There is no dataset yet.")
            return nothing
        dataset = st.selectbox("Dataset", names, key=f"{key}-dataset")
    if source == "A release":
        known = [one.name for one in opened.releases.all(dataset)]
        if not known:
            st.info("There is no release of this dataset yet.")
            return nothing
        release = st.selectbox("Release", known, key=f"{key}-release")
    if source == "Policies":
        known = [one.generator for one in opened.policies.generators()]
        if not known:
            st.info("No policy has answered anything yet.")
            st.page_link("pages/alignment.py", label="Make policies", icon=":material/route:")
            return nothing
        writers = st.multiselect(
            "Policies", known, key=f"{key}-policies", help="What each answered to held-out prompts at the end of its training."
        )
    if source == "Outputs of generators":
        uploads = st.file_uploader(
            "Outputs in AlpacaEval's form, or answers in MT-bench's (with its question file)",
            type=["json", "jsonl", "gz"], accept_multiple_files=True, key=f"{key}-outputs",
        )  # fmt: skip
    if source == "A file of items":
        uploads = st.file_uploader(
            "Items: one JSON object a line, with prompt and responses", type=["json", "jsonl", "gz"],
            accept_multiple_files=True, key=f"{key}-items",
        )  # fmt: skip
        return lambda study, design: from_uploads(
            uploads, lambda files: [study_items.from_item_file(study, one) for one in files]
        )
    if source not in SOURCES[:4]:
        return nothing
    with st.container(horizontal=True):
        count = st.number_input("Items", 1, 100_000, 100, key=f"{key}-count")
        by = st.multiselect("In proportion to", list(STRATA), key=f"{key}-by")
        equal = st.checkbox("…or in equal numbers", key=f"{key}-equal")
        each = st.number_input("Pairs of one prompt, to compare", 1, 20, 1, key=f"{key}-each") if dataset is None else 1
        seed = st.number_input("Seed", 0, 2**31 - 1, 0, key=f"{key}-seed")
        attention = st.number_input("Attention items", 0, 100, 0, key=f"{key}-attention")
        gold = st.number_input("Gold items of settled pairs", 0, 500, 0, key=f"{key}-settled") if dataset else 0
        warm = st.number_input("Warm-up items of settled pairs", 0, 50, 0, key=f"{key}-warm") if dataset else 0

    def draw(study: str, design: Design) -> list[Drawn]:
        sample = Sample(count, tuple(by), equal, seed)
        if source == "Policies":
            if not writers:
                raise ValueError("no policy was chosen")
            found = [study_items.from_policies(opened, study, design, writers, sample, each=each)]
        elif dataset is None:
            found = from_uploads(uploads, lambda files: [outputs_of(files, study, design, sample, each)])
        else:
            found = [study_items.from_dataset(opened, study, dataset, sample, release=release)]
        if attention:
            made = study_items.attention_items(study, design, found[0].items, attention, seed=seed)
            found.append(Drawn(made, f"{len(made)} attention items"))
        for kind, wanted in (("gold", gold), ("warm-up", warm)):
            if wanted and dataset:
                there = [item for one in found for item in one.items]
                some = Sample(wanted, seed=seed)
                found.append(study_items.gold_from_settled(opened, study, dataset, some, without=there, kind=kind))
        return found

    return draw


def nothing(study: str, design: Design) -> list[Drawn]:
    return []


def outputs_of(files: list[Path], study: str, design: Design, sample: Sample, each: int) -> Drawn:
    asked = [one for one in files if one.name.startswith("question")]
    others = [one for one in files if one not in asked]
    return study_items.from_output_files(study, design, others, sample, each=each, questions=asked[0] if asked else None)


def from_uploads(uploads: list[ui.Upload], read: Callable[[list[Path]], list[Drawn]]) -> list[Drawn]:
    with kept_for_a_moment(uploads) as files:
        if not files:
            raise ValueError("no file was chosen")
        return read(files)


@contextmanager
def kept_for_a_moment(uploads: list[ui.Upload]) -> Iterator[list[Path]]:
    """Uploads as files, for readers that read files."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for upload in uploads:
            file = Path(folder, Path(upload.name).name)
            file.write_bytes(upload.getbuffer())
            files.append(file)
        yield files


def add(study: str, draw: Draw) -> None:
    """Draw and add items; what was added is said on the next page, what was wrong at once."""

    def act() -> None:
        state["told"] = added(study, draw(study, studies.design_of(opened, study)))

    ui.attempt(act)


def added(study: str, found: list[Drawn]) -> str:
    """Add items that were drawn; says what was added."""
    said = []
    for drawn in found:
        new = studies.add_items(opened, study, drawn.items, person, words=drawn.words)
        said.append(f"{new} items added ({drawn.words}).")
    return " ".join(said)


# ---- watching one


def progress(study: str) -> None:
    now = study_numbers.totals(opened, study)
    closed = opened.studies.closed(study)
    if not now.items:
        st.info("This study has no items yet: add some under Design, or import ratings under In and out.")
    with st.container(horizontal=True):
        st.metric("Items complete", f"{now.complete:,} of {now.items:,}")
        st.metric("Answers", f"{now.answers:,} of {now.wanted:,}")
        st.metric("Raters", now.raters)
        st.metric("Median time an item", ui.duration(now.median_seconds))
        low = studies.design_of(opened, study).extra_below or 1.0
        st.metric("Disputed", f"{now.disputed:,}", help=f"agreement under {low:g}; {now.settled:,} items are settled")
        st.metric("Skips", now.skips)
    if now.wanted:
        st.progress(min(1.0, now.answers / now.wanted))
    st.subheader("Agreement so far", anchor=False)
    found = people.tables(opened, study)
    if not found:
        st.caption("None yet: nobody has answered.")
    for name, table in found.items():
        figure = studies.kept(opened, study, f"main/{name}", lambda table=table: people.main_measure(table))
        st.text(f"{name}: Krippendorff alpha ({table.level}) {figure.words()}")
    st.page_link("pages/agreement.py", label="All measures, generators, contradictions", icon=":material/handshake:")
    seen = study_numbers.all_habits(opened, study)
    if seen.longer.n:
        st.subheader("Habits", anchor=False)
        st.text(f"The side shown first won {seen.first_side.words()} (0.50 is no position bias).")
        st.text(f"The longer side won {seen.longer.words()}.")
    st.subheader("Link for raters", anchor=False)
    st.code(ui.link("rate", study=study, **{"for": "raters"}), language=None)
    with st.container(horizontal=True):
        if closed:
            st.button("Reopen", key="reopen", on_click=studies.reopen, args=(opened, study, person))
            st.caption("Closed: nobody is handed an item.")
        else:
            st.button("Close", key="close", on_click=studies.close, args=(opened, study, person))
        st.button("Look again", key="refresh", icon=":material/refresh:")
    paced = study_numbers.pace(opened, study)
    if paced:
        st.subheader("Answers a day", anchor=False)
        numbers = {rater: f"rater {number}" for number, rater in enumerate(sorted({one["rater"] for one in paced}), start=1)}
        st.bar_chart([one | {"rater": numbers[one["rater"]]} for one in paced], x="day", y="answers", color="rater", height=220)
    skips = opened.answers.skips(study)
    if skips:
        st.subheader("Why items were skipped", anchor=False)
        st.dataframe([{"why": one["why"] or "no reason given", "item": one["item_id"]} for one in skips], hide_index=True)


def raters(study: str) -> None:
    rows = study_numbers.raters(opened, study)
    if not rows:
        st.info("Nobody has answered yet.")
        return
    names = st.toggle("Show names", key="names")
    rates = studies.design_of(opened, study).rates
    for number, one in enumerate(rows, start=1):
        with st.container(border=True):
            who = one.rater if names else f"Rater {number}"
            st.text(
                f"{who}: {one.done:,} done, {one.left:,} left, {one.skipped} skipped · {ui.duration(one.seconds)} an item"
                f" · last {one.last:%Y-%m-%d %H:%M}"
            )
            if one.same_as_others is not None:
                st.text(f"{'Correlation with' if rates else 'Same choice as'} the other raters: {one.same_as_others.words()}")
            checks = [("gold", one.gold), ("attention", one.attention)]
            habits = [("first side won", one.first_side), ("longer side won", one.longer)]
            told = [f"{name} {share.words()}" for name, share in (*checks, *habits) if share.n]
            line = one.straight
            if line.most_common.n:
                told.append(f"same value {line.run} times in a row, the most common one {line.most_common.words()}")
            st.caption(plain.md(" · ".join(told)))
            if one.paused:
                st.warning(plain.md(one.paused), icon=":material/pause_circle:")
                st.button(
                    "Let them go on", key=f"on-{one.rater}", on_click=studies.let_on, args=(opened, study, one.rater, person)
                )


def items(study: str) -> None:
    rows = study_numbers.items(opened, study)
    shown = [
        {
            "asked": one.asked, "subset": one.subset, "kind": one.kind, "raters": one.raters, "wanted": one.wanted,
            "held": one.held, "agreement": one.agreement, "median seconds": one.seconds, "settled": one.settled,
        }
        for one in rows
    ]  # fmt: skip
    open_only = st.toggle("Only those that are not complete", key="open-only")
    if open_only:
        shown = [one for one in shown if one["raters"] < one["wanted"]]
    if not shown:
        st.info("There is none." if open_only else "This study has no items yet.")
        return
    numbers = {name: st.column_config.NumberColumn(format="%.2f") for name in ("agreement", "median seconds")}
    ui.paged(shown, key="items", column_config={"asked": st.column_config.TextColumn(width="large"), **numbers})


# ---- settling


def disputed(study: str) -> None:
    which = st.segmented_control("Show", ["Open", "Settled"], default="Open", required=True, key="which")
    found = study_disputes.disputed(opened, study, settled=which == "Settled")
    if not found:
        st.info("Nothing has been settled yet." if which == "Settled" else "No disagreement is open.", icon=":material/gavel:")
        return
    place = min(state.get("dispute", 0), len(found) - 1)
    dispute = found[place]
    item_id = dispute.item_id
    state.setdefault(f"began-{item_id}", time.time())
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Previous", key="previous", on_click=step, args=(-1, len(found)), shortcut="left")
        st.button("Next", key="next", on_click=step, args=(1, len(found)), shortcut="right")
        st.text(f"{place + 1} of {len(found)} · {len(dispute.answers)} raters, agreement {dispute.agreement:.0%}")
    design = studies.design_of(opened, study)
    item, content = opened.studies.item(item_id), opened.studies.content(item_id)
    names = {response: f"Response {number}" for number, response in enumerate(item.responses, start=1)}
    ui.show_responses(content.prompt, [(names[one], content.texts[one]) for one in item.responses])
    st.subheader("What raters said", anchor=False)
    for number, answer in enumerate(dispute.answers, start=1):
        with st.container(border=True):
            st.text(f"Rater {number}: {said(answer.marks, names)} · {ui.duration(answer.seconds)}")
            if answer.reasons or answer.note:
                st.text(" · ".join([*answer.reasons, answer.note]).strip(" ·"))
    standing = dispute.settlement
    if standing is not None:
        held = study_disputes.marks_of_settlement(standing)
        st.success(plain.md(f"Settled: {said(held, names)}. A new settlement takes its place; both are kept."))
        if standing.note:
            st.text(standing.note)
    st.subheader("Settle it", anchor=False)
    found_fields = study_disputes.fields(opened, study, item_id)
    before = (
        study_disputes.settled_values(design, found_fields, study_disputes.marks_of_settlement(standing)) if standing else {}
    )
    given: dict[study_disputes.Field, float] = {}
    for number, one in enumerate(found_fields):
        value = field_asked(one, names, before.get(one), key=f"settle-{number}-{item_id}-{standing and standing.settlement_id}")
        if value is not None:
            given[one] = value
    note = st.text_input("Why (optional)", key=f"why-{item_id}", live="300ms", persist_state="session")
    if st.button("Settle", type="primary", key=f"settle-{item_id}"):
        instead_of = standing.settlement_id if standing else None
        ui.attempt(lambda: settle(study, item_id, study_disputes.settled_marks(design, given), note, instead_of))


def field_asked(one: study_disputes.Field, names: dict[str, str], before: float | None, *, key: str) -> float | None:
    """A value for one thing to settle; None while it is open."""
    label = f"{names[one.first]}: {one.aspect}"
    if one.second:
        label = f"A is {names[one.first]}, B is {names[one.second]}"
    if not one.words:
        return st.number_input(plain.md(label), one.low, one.high, before, key=key)
    words = {float(value): word if word == str(value) else f"{value} {word}" for value, word in enumerate(one.words, start=1)}
    shown = {value: plain.md(word) for value, word in words.items()}
    return st.segmented_control(plain.md(label), list(words), format_func=shown.get, default=before, key=key)


def settle(study: str, item_id: str, marks: Marks, note: str, instead_of: str | None) -> None:
    seconds = time.time() - state.get(f"began-{item_id}", time.time())
    done = study_disputes.settle(opened, study, item_id, marks, person, note=note, seconds=seconds, instead_of=instead_of)
    state["told"] = "Settled." if done else "That item was settled meanwhile: nothing was recorded."
    st.rerun()


def said(marks: Marks, names: dict[str, str]) -> str:
    parts = sorted(f"{names.get(response, response)} {aspect} {value:g}" for response, aspect, value in marks.ratings)
    for left, right, choice, strength in marks.preferences:
        side = {"left": left, "right": right}.get(choice)
        strong = f" ({abs(strength)} of 3)" if strength else ""
        parts.append(f"{names.get(side, side)} is better{strong}" if side else choice)
    return ", ".join(parts)


def step(by: int, among: int) -> None:
    state["dispute"] = (state.get("dispute", 0) + by) % max(1, among)


# ---- changing, in and out


def change(study: str) -> None:
    now = studies.design_of(opened, study)
    if studies.frozen(opened, study):
        st.info(
            "Answers are in, so the questions are frozen. Overlap and raters at most may rise, items may be added, and how "
            "often gold items come, when raters are paused and how long a claim lasts may change.", icon=":material/lock:",
        )  # fmt: skip
    design = design_asked(now, key=f"change-{study}")
    if st.button("Save", type="primary", key="save-design") and design is not None:
        wanted = design

        def act() -> None:
            different = studies.change(opened, study, wanted, person)
            state["told"] = f"Saved: {', '.join(different)}." if different else "Nothing was changed."

        if ui.attempt(act):
            st.rerun()
    st.subheader("Add items", anchor=False)
    source = st.radio("Of", SOURCES[:5], key="more-source", horizontal=True)
    draw = items_asked(source, key="more")
    if st.button("Add", key="add-items"):
        add(study, draw)
        if state.get("told"):
            st.rerun()
    st.subheader("What happened", anchor=False)
    st.dataframe(studies.record_of(opened, study), hide_index=True)


def in_and_out(study: str) -> None:
    st.subheader("Export", anchor=False)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        form = st.selectbox("Form", list(ratings_export.FORMS), format_func=ratings_export.FORMS.get, key="form")
        names = st.checkbox("Names instead of pseudonyms", key="export-names")
    for file in ratings_export.files(opened, study, form=form, names=names):
        st.download_button(plain.md(file.name), file.write, file_name=file.name, key=f"download-{file.name}-{form}-{names}")
    st.subheader("Import ratings", anchor=False)
    uploads = st.file_uploader(
        "A file of ratings or preferences", type=["csv", "jsonl", "json", "parquet", "gz"], key="ratings-upload",
        accept_multiple_files=True,
    )  # fmt: skip
    words = st.text_input(
        "Words of the scale, lowest first (where values are words)", placeholder="No, Unsure, Yes", key="scale"
    )
    mapping = ui.mapping_asked(ratings_import.FIELDS, key="ratings-map")
    if st.button("Import", key="import-ratings", type="primary"):
        with kept_for_a_moment(uploads) as files:

            def act() -> None:
                told = [
                    ratings_import.import_ratings(
                        opened, study, file, person=person, mapping=mapping,
                        scale=[one.strip() for one in words.split(",") if one.strip()],
                    ).words()
                    for file in files
                ]  # fmt: skip
                state["told"] = " ".join(told) or "No file was chosen."

            if ui.attempt(act):
                st.rerun()
    rejects = opened.studies.rejects(study)
    if rejects:
        st.subheader("What could not be used", anchor=False)
        st.dataframe(rejects, hide_index=True)


def plan() -> None:
    st.caption("How many items and raters it takes for a 95% interval of a given width.")
    with st.container(horizontal=True):
        half = st.number_input("Plus or minus, in points of the scale", 0.01, 10.0, 0.2, key="plan-half")
        sd = st.number_input("Standard deviation of a rating", 0.01, 10.0, 1.0, key="plan-sd")
        icc = st.slider("Share of the variance that is between items (ICC)", 0.0, 1.0, 0.5, 0.05, key="plan-icc")
    st.dataframe([one._asdict() for one in sample_size.plans(half, sd, icc)], hide_index=True)
    with st.container(horizontal=True):
        points = st.number_input("Win rate, plus or minus percentage points", 0.5, 50.0, 5.0, key="plan-points")
        share = st.slider("Expected win rate", 0.05, 0.95, 0.5, 0.05, key="plan-share")
    st.dataframe([one._asdict() for one in sample_size.plans_for_share(points / 100, share, icc)], hide_index=True)


# ---- the page

known = [name for name, _, _ in opened.studies.all()]
places = ["Watch a study", "New study", "Sample size"]
if state.get("told"):
    st.info(plain.md(state.pop("told")), icon=":material/info:")
if "next-place" in state:  # asked for by a button below: a widget's value can only be set before it is drawn
    state["place"] = state.pop("next-place")
here = st.segmented_control(
    "Do", places, default="Watch a study" if known else "New study", required=True, key="place", label_visibility="collapsed"
)
if here == "New study":
    new_study()
elif here == "Sample size":
    plan()
else:
    chosen = ui.chosen_study(opened)
    if len(known) == 1:
        st.caption(plain.md(chosen))
    view = st.segmented_control("Show", VIEWS, default="Progress", required=True, key="view", label_visibility="collapsed")
    {
        "Progress": progress, "Raters": raters, "Items": items, "Disputed": disputed, "Design": change,
        "In and out": in_and_out,
    }[view or "Progress"](chosen)  # fmt: skip
