"""The dataset card of a release: its manifest as Markdown with the YAML header of Hugging Face.

Text that comes from data stands only in code spans, where it can form neither Markdown nor HTML.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Manifest = Mapping[str, Any]

_HEADINGS = ("rows", "kept", "swapped", "dropped", "kept or swapped")


def card(manifest: Manifest) -> str:
    """The text of README.md."""
    parts = [
        _header(manifest), _opening(manifest), _files(), _counts(manifest), _types(manifest), _policy(manifest),
        _screenings(manifest), _provenance(manifest), _caveats(manifest),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def code(text: object) -> str:
    """Any text as a code span on one line, shortened; what would end the span or a table's cell is replaced."""
    line = "".join(one if one.isprintable() else " " for one in str(text)).strip()
    line = line.replace("`", "'").replace("|", "¦")
    return f"`{line[:200]}{'…' if len(line) > 200 else ''}`" if line else "(none)"


def percent(share: float | None) -> str:
    """A share for people; a share of nothing is "none yet", and one that only rounds to none or all says so."""
    if share is None:
        return "none yet"
    if 0 < share < 0.0005:
        return "under 0.1%"
    return "over 99.9%" if 0.9995 <= share < 1 else f"{share:.1%}"


def _header(manifest: Manifest) -> str:
    paths = _released_files(manifest)
    lines = ["---", f"pretty_name: {json.dumps(_title(manifest), ensure_ascii=False)}"]
    lines += ["tags:", *(f"- {tag}" for tag in ("preference", "rlhf", "human-feedback", "trl"))]
    if paths:
        lines.append("configs:")
        for config, default in (("hh", True), ("trl", False)):
            lines += [f"- config_name: {config}", *(["  default: true"] if default else []), "  data_files:"]
            for split, stems in paths.items():
                lines += [f"  - split: {split}", "    path:", *(f"    - {config}/{stem}.parquet" for stem in stems)]
    return "\n".join([*lines, "---"])


def _released_files(manifest: Manifest) -> dict[str, list[str]]:
    """For each split the files that hold rows, without their ending."""
    paths: dict[str, list[str]] = {}
    for group in manifest["counts"]["by_subset"]:
        if group["rows"]["kept"] + group["rows"]["swapped"]:
            split = manifest["names"]["splits"][group["split"]]
            subset = manifest["names"]["subsets"][group["subset"]]
            paths.setdefault(split, []).append("/".join(part for part in (subset, split) if part))
    return paths


def _title(manifest: Manifest) -> str:
    return f"{manifest['dataset']['name']}, cleaned"


def _opening(manifest: Manifest) -> str:
    rows = manifest["counts"]["rows"]
    pairs = manifest["counts"]["pairs"]
    return (
        "# A cleaned preference dataset\n\n"
        f"A frozen release of the dataset {code(manifest['dataset']['name'])}. "
        f"Of {rows['total']:,} rows {rows['kept']:,} are kept as they were, {rows['swapped']:,} have their label swapped, and "
        f"{rows['dropped']:,} are dropped. These rows hold {pairs['total']:,} distinct pairs: {pairs['kept']:,} kept, "
        f"{pairs['swapped']:,} swapped, {pairs['dropped']:,} dropped."
    )


_PATHS = (
    ("`hh/`", "`chosen` and `rejected` as HH transcripts, JSONL and Parquet, by subset and split; rows that are not swapped "
     "are byte for byte the imported ones"),
    ("`trl/`", "the same rows as conversations with an explicit prompt, for TRL's trainers"),
    ("`dataset/`", "the rows of `trl/` for `datasets.load_from_disk`, with `subset` and `pair_id` (the imported pair's, also "
     "where the label was swapped)"),
    ("`labels.jsonl`", "every verdict and adjudication that stands, reviewers under pseudonyms"),
    ("`dropped.jsonl`, `swapped.jsonl`", "the rows that were dropped (with their texts) or swapped, each with the reason"),
    ("`manifest.json`", "counts, policy, filters with their parameters, and the checksum of every other file"),
)  # fmt: skip
_LOADING = """\
```python
from datasets import load_dataset, load_from_disk

load_dataset("PATH", "hh")  # or "trl"; PATH is this folder
load_from_disk("PATH/dataset")  # as TRL's reward and DPO trainers take it
```

Rows keep the order of the source. Row numbers in the JSONL files count from 0 in the source."""


def _files() -> str:
    return "\n\n".join(["## Files", _table(("path", "holds"), _PATHS), _LOADING])


def _counts(manifest: Manifest) -> str:
    rows = [[code(one["subset"]), code(one["split"]), *_outcomes(one["rows"])] for one in manifest["counts"]["by_subset"]]
    rows.append(["all", "all", *_outcomes(manifest["counts"]["rows"])])
    bases = [[one["basis"], *_outcomes(one["rows"])] for one in manifest["counts"]["by_basis"]]
    return "\n\n".join(
        [
            "## What became of the rows",
            _table(("subset", "split", *_HEADINGS), rows),
            "What it was decided by:",
            _table(("basis", *_HEADINGS), bases),
        ]
    )


def _outcomes(counts: Manifest) -> list[str]:
    stay = counts["kept"] + counts["swapped"]
    share = stay / counts["total"] if counts["total"] else None
    return [*(f"{counts[name]:,}" for name in ("total", "kept", "swapped", "dropped")), f"{stay:,} ({percent(share)})"]


def _types(manifest: Manifest) -> str:
    words = {"all": "All reviewed pairs", "flagged": "Flagged by a filter", "not_flagged": "Not flagged by any filter"}
    parts = [
        "## Types among reviewed pairs",
        "Distinct pairs by what was decided, with their share of the n reviewed pairs and its 95% Wilson interval.",
    ]
    for name, title in words.items():
        types = manifest["counts"]["types"][name]
        n = types[0]["n"]
        parts.append(f"{title}: {f'n = {n:,}' if n else 'none yet'}.")
        if n:
            parts.append(_table(("type", "pairs", "share", "95% interval"), [_type(one) for one in types]))
    return "\n\n".join(parts)


def _type(one: Manifest) -> list[str]:
    return [one["type"], f"{one['pairs']:,}", percent(one["share"]), f"{percent(one['low'])} to {percent(one['high'])}"]


def _policy(manifest: Manifest) -> str:
    return "## Policy\n\n" + _bullets(manifest["policy_in_words"])


def _screenings(manifest: Manifest) -> str:
    rows = [
        [
            code(one["filter"]),
            str(one["version"]),
            code(json.dumps(one["parameters"])),
            str(one["threshold"]),
            code(one["read_by"]) if one["read_by"] else "rules alone",
            f"{one['flagged']:,} of {one['screened']:,}",
        ]
        for one in manifest["screenings"]
    ]
    table = (
        _table(("filter", "version", "parameters", "threshold", "read by", "pairs flagged"), rows)
        if rows
        else "No filter has screened it yet."
    )
    return f"## Filters\n\n{table}"


def _provenance(manifest: Manifest) -> str:
    source, review, program = manifest["dataset"], manifest["review"], manifest["program"]
    return "## Where it comes from\n\n" + _bullets(
        [
            f"Source {code(source['source'])}, {source['rows']:,} rows imported, {source['rejected']:,} unreadable.",
            f"Hash of the imported rows in order: {code(source['content_hash'])}.",
            f"{review['verdicts']:,} verdicts and {review['adjudications']:,} adjudications by {review['reviewers']:,} people, "
            f"the latest: {manifest['as_of'] or 'none yet'}.",
            f"Review settings: {code(json.dumps(review['settings']))}.",
            f"Made with {program['name']} {program['version']}. The licence is that of the source.",
        ]
    )


def _caveats(manifest: Manifest) -> str:
    further = manifest["trl"]["rows_whose_responses_hold_further_turns"]
    promptless = manifest["trl"]["rows_left_out_without_a_shared_prompt"]
    return "## Caveats\n\n" + _bullets(
        [
            "Shares are over the pairs people looked at. Flagged pairs are looked at first, so the shares over all reviewed "
            "pairs are not the dataset's; pairs not flagged are a sample.",
            "Rows nobody reviewed are as good or bad as they were: no filter changes a label.",
            "A pair that stands in several rows is judged once, and may stand in several subsets: rows add up over subsets, "
            "distinct pairs need not.",
            "In `trl/` and `dataset/` a response is one assistant message, also where its text holds further turns "
            f"({further:,} released rows). Rows whose sides share no prompt cannot be trained on in that form: they are "
            f"only in `hh/` ({promptless:,} rows). "
            "Text before the first marker is given as a system message.",
            "Reviewers are pseudonymous: a pseudonym names the same person in every release of the workspace.",
        ]
    )


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
