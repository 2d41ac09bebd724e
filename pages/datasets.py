"""Datasets: import, browse and search, open a pair, see rejected rows, make releases."""

import json
import tempfile
from pathlib import Path
from typing import Any

import streamlit as st

from curation import meaning, plain, release, review, ui
from curation.forms import FIELDS
from curation.importing import Imported, import_source
from curation.release_policy import OUTCOMES, Policy
from curation.review import Verdict
from curation.sources import ENDINGS, Source, source_of

opened = ui.page("Datasets")
state = st.session_state
PAGE = 20


# ---- import


def do_import(source: Source, name: str) -> Imported | None:
    bar = st.progress(0.0, text="reading")
    try:
        return import_source(opened, source, name, progress=lambda share, words: bar.progress(share, text=words))
    except (ValueError, OSError) as error:
        st.error(plain.md(str(error)), icon=":material/error:")
        return None
    finally:
        bar.empty()


def import_form() -> None:
    """A file from this computer, or a path or hub id as the server sees it."""
    uploads = st.file_uploader(
        "Files", type=["jsonl", "gz", "json", "csv", "parquet"], accept_multiple_files=True, key="upload",
        help=f"read as they are: {' '.join(ENDINGS)}",
    )  # fmt: skip
    place = st.text_input("…or a folder, a file, or a hub id on the server", placeholder="Anthropic/hh-rlhf", key="place")
    with st.container(horizontal=True):
        name = st.text_input("Name", placeholder="by default the source's", key="import-name")
        split = st.text_input("Split", placeholder="all", key="import-split")
        limit = st.number_input("Rows at most", min_value=1, value=None, placeholder="all", key="import-limit")
    with st.expander("Columns called otherwise"):
        st.caption("HH strings, prompt/chosen/rejected, conversations and RewardBench rows are understood without this.")
        mapping = {field: st.text_input(field, placeholder=field, key=f"map-{field}") for field in FIELDS}
    if not st.button("Import", type="primary", key="import-button", icon=":material/upload:"):
        return
    if not uploads and not place.strip():
        st.warning("Choose a file, or name a folder, a file or a hub id.")
        return
    given = {
        "split": split.strip() or None,
        "limit": limit,
        "mapping": {field: one for field, one in mapping.items() if one},
    }
    with tempfile.TemporaryDirectory() as folder:
        try:
            if uploads:
                for upload in uploads:
                    Path(folder, Path(upload.name).name).write_bytes(upload.getbuffer())
                only = Path(uploads[0].name).name
                source = source_of(str(Path(folder, only)) if len(uploads) == 1 else folder, **given)
                source.name = only if len(uploads) == 1 else "upload"
            else:
                source = source_of(place.strip(), **given)
        except ValueError as error:
            st.error(plain.md(str(error)), icon=":material/error:")
            return
        done = do_import(source, name.strip() or source.name.split(".")[0])
    if done is not None:
        state["dataset"] = done.dataset
        again = "" if done.new else " All of it was there already: nothing changed."
        state["told"] = (
            f"{done.dataset}: {done.rows:,} rows, {done.rejected:,} rejected, in {ui.duration(done.seconds)}.{again}"
        )
        st.rerun()


# ---- browse


def browse(dataset: str) -> None:
    """Rows in order, narrowed and searched in the store, twenty at a time; or those nearest in meaning to a text."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        by = st.segmented_control(
            "Search by", ["words", "meaning"], default="words", required=True, key="search-by",
            help="meaning finds pairs about the same thing, whatever their words",
        )  # fmt: skip
        text = st.text_input(
            "Search in all turns", key="search", type="search", live="300ms",
            placeholder="words, or a pair's id" if by == "words" else "what the pair is about", width=360,
        )  # fmt: skip
    if by == "meaning":
        search_by_meaning(dataset, text)
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        subsets = [subset for subset in opened.pairs.subsets(dataset) if subset]
        subset = st.selectbox("Subset", ["all", *subsets], key="browse-subset", width=200) if subsets else "all"
        found = [one.filter for one in opened.flags.current(dataset)]
        flagged = (
            st.selectbox("Flagged by", ["any or none", *found], key="browse-filter", width=170) if found else "any or none"
        )
        verdict = st.selectbox("Verdict", ["any or none", *(one.value for one in Verdict)], key="browse-verdict", width=170)
    narrowed = {
        "text": text, "subset": subset if subset in subsets else None, "filter": flagged if flagged in found else None,
        "verdict": verdict if verdict in set(Verdict) else None,
    }  # fmt: skip
    count = opened.pairs.count(dataset, **narrowed)
    if not count:
        st.info("No row fits. Take away a condition, or search for something else.")
        return
    pages = -(-count // PAGE)
    number = 1
    with st.container(horizontal=True, vertical_alignment="center"):
        st.text(f"{count:,} row{'s' if count != 1 else ''}")
        if pages > 1:
            number = st.number_input(
                "Page", 1, pages, key=f"page-{hash(tuple(narrowed.values()))}", width=140, label_visibility="collapsed"
            )
            st.text(f"of {pages:,}")
    rows = opened.pairs.page(dataset, offset=(number - 1) * PAGE, limit=PAGE, **narrowed)
    picked = ui.pick_row(rows, key=f"rows-{dataset}-{number}-{hash(tuple(narrowed.values()))}")
    if picked is not None:
        open_pair(dataset, rows[picked].pair_id)
    else:
        st.caption("Tick a row to open its pair.")


def search_by_meaning(dataset: str, text: str) -> None:
    """The pairs nearest in meaning to what was typed."""
    if not text.strip():
        st.caption("Type what the pair is about, in a few words or a whole sentence.")
        return
    with st.spinner("Comparing meanings (the first time takes some seconds)"):
        try:
            found = meaning.search(opened, dataset, text.strip())
        except meaning.NotRead as error:
            ui.not_read(str(error))
            return
    picked = ui.pick_near(found, key=f"near-{dataset}-{hash(text)}")
    if picked is not None:
        open_pair(dataset, found[picked].row.pair_id)
    else:
        st.caption("Nearest first; `near` is the cosine with the nearest part of the pair. Tick a row to open its pair.")


def open_pair(dataset: str, pair_id: str) -> None:
    """One pair whole: texts, places, flags, verdicts; and it can be made a gold pair."""
    pair = opened.pairs.pair(pair_id)
    with st.container(border=True, key="open-pair"):
        places = opened.pairs.positions(dataset, pair_id)
        st.text("; ".join(f"row {row}, {file} line {line}" for row, _, _, file, line in places[:5]) + f" · pair {pair_id}")
        compare = st.toggle("Word difference", key=f"compare-{pair_id}")
        ui.show_pair(pair, a=("chosen", pair.chosen.text), b=("rejected", pair.rejected.text), compare=compare)
        ui.show_reasons(review.reasons(opened, dataset, pair_id))
        for one in opened.verdicts.of_pair(pair_id):
            st.text(f"{one.person}: {one.verdict}{' · ' + one.note if one.note else ''}")
        if st.toggle("Pairs like this one", key=f"like-{pair_id}"):
            ui.show_neighbours(opened, dataset, pair_id)
        with st.popover("Make it a gold pair"):
            answer = st.selectbox("The right verdict", [one.value for one in Verdict], key=f"gold-answer-{pair_id}")
            swapped = st.checkbox("Turn its label round", key=f"gold-swap-{pair_id}")
            if st.button("Make it gold", key=f"gold-{pair_id}"):
                person = state.get("person", "curator")
                if ui.attempt(lambda: review.make_gold(opened, dataset, pair_id, Verdict(answer), person, swapped=swapped)):
                    st.success("It is in everyone's queue now, once.")


def rejects(dataset: str) -> None:
    """Rows that could not be read."""
    found = opened.pairs.rejects(dataset)
    if not found:
        st.success("Every row could be read.", icon=":material/check:")
        return
    st.dataframe(found, hide_index=True)


# ---- releases


def releases(dataset: str) -> None:
    """The releases there are, and a new one with its counts beforehand."""
    made = opened.releases.all(dataset)
    if not made:
        st.info("Nothing is released yet. Below you see what a release would hold, before anything is written.")
    for one in reversed(made):
        with st.expander(f"{plain.md(one.name)} · {one.released_at:%Y-%m-%d}", icon=":material/inventory_2:"):
            st.code(str(opened.folder / one.folder), language=None)
            show_counts(json.loads(one.manifest)["counts"])
    st.subheader("A new release", anchor=False)
    policy = policy_form(dataset)
    show_counts(release.plan(opened, dataset, policy).counts)
    with st.form(f"release-{dataset}"):
        name = st.text_input("Name", placeholder=f"{dataset}-clean-1", key="release-name")
        if st.form_submit_button("Release", type="primary", icon=":material/inventory_2:"):
            write_release(dataset, name.strip(), policy)


def policy_form(dataset: str) -> Policy:
    """What stays, what is swapped and what goes."""
    fields, first = Policy.model_fields, Policy()
    with st.expander("Policy", icon=":material/tune:"):
        st.caption("What becomes of a pair that reviewers judged…")
        with st.container(horizontal=True):
            fates = {
                one: st.selectbox(
                    one.value, OUTCOMES, index=list(OUTCOMES).index(first.verdicts[one]), key=f"fate-{one}", width=120
                )
                for one in Verdict
            }
        needed = st.number_input("Verdicts needed", 1, 20, first.votes_needed, help=fields["votes_needed"].description)
        decision = st.segmented_control("What decides", ["majority", "unanimous"], default="majority", required=True)
        undecided = st.segmented_control("No decision, no adjudication", ["drop", "keep"], default="drop", required=True)
        flagged = st.segmented_control("Flagged, not reviewed", ["keep", "drop"], default="keep", required=True)
        current = {one.filter: one for one in opened.flags.current(dataset)}
        taken = state.get("drop-unreviewed", {}).get(dataset, {})  # from the Filters page, as long as nothing has changed
        found, accepted = list(current), [name for name, one in taken.items() if current.get(name) == one]
        words = fields["drop_unreviewed_filters"].description
        filters = st.multiselect("…but drop what these flag", found, default=accepted, help=words)
        notes = st.checkbox("Reviewers' notes in labels.jsonl", help=fields["include_notes"].description)
    policy = Policy(
        verdicts=fates, flagged_unreviewed=flagged, drop_unreviewed_filters=tuple(filters), votes_needed=needed,
        decision=decision, undecided=undecided, include_notes=notes,
    )  # fmt: skip
    st.caption(" ".join(policy.in_words()))
    return policy


def show_counts(counts: dict[str, Any]) -> None:
    """What stays, is swapped and goes, in rows: in all and by subset, and the verdicts behind it."""
    rows = [("all", counts["rows"])] + [
        ("/".join(filter(None, (one["subset"], one["split"]))) or "(no subset)", one["rows"]) for one in counts["by_subset"]
    ]
    what = ("total", "kept", "swapped", "dropped")
    st.dataframe([{"rows of": name, **{one: outcomes[one] for one in what}} for name, outcomes in rows], hide_index=True)
    types = [one for one in counts["types"]["all"] if one["pairs"]]
    if types:
        st.dataframe(
            [{"type": one["type"], "of reviewed pairs": review.share(one["pairs"], one["n"])} for one in types], hide_index=True
        )
    else:
        st.caption("Types of verdict: none yet, nobody has reviewed a pair of this dataset.")


def write_release(dataset: str, name: str, policy: Policy) -> None:
    bar = st.progress(0.0, text="writing")

    def tell(share: float, words: str) -> None:
        bar.progress(share, text=words)

    made = ui.attempt(lambda: release.release(opened, dataset, name, policy, progress=tell))
    bar.empty()
    if made:
        state["told"] = f"Released {name}."
        st.rerun()


if state.get("told"):
    st.success(plain.md(state.pop("told")), icon=":material/check:")
names = [one.dataset for one in opened.pairs.datasets()]
if not names:
    st.info("There is no dataset yet: import one here.", icon=":material/inbox:")
    import_form()
    st.stop()
tabs = ["Browse", "Rejects", "Releases", "Import"]
with st.container(horizontal=True, vertical_alignment="bottom"):
    tab = st.segmented_control("Show", tabs, default="Browse", required=True, key="datasets-tab", label_visibility="collapsed")
    if tab != "Import":
        current = ui.chosen_dataset(opened)
if tab == "Import":
    import_form()
elif tab == "Browse":
    browse(current)
elif tab == "Rejects":
    rejects(current)
else:
    releases(current)
