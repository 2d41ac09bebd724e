"""Import and screening of many pairs, beside the plainest script that does the like. `python -m tests.bench bulk`."""

import sys
from pathlib import Path

from tests.bench import data, measure

# what a notebook would do: read, split at the last answer, put into SQLite
PLAIN_IMPORT = """
import gzip, json, sqlite3, sys
db = sqlite3.connect(sys.argv[2])
db.execute("CREATE TABLE pairs (prompt TEXT, chosen TEXT, rejected TEXT)")
mark = "\\n\\nAssistant:"
with gzip.open(sys.argv[1], "rt", encoding="utf-8") as file:
    for line in file:
        row = json.loads(line)
        cut = row["chosen"].rfind(mark) + len(mark)
        db.execute("INSERT INTO pairs VALUES (?, ?, ?)", (row["chosen"][:cut], row["chosen"][cut:], row["rejected"][cut:]))
db.commit()
"""
# rules alone: what models read has benchmarks of its own, and so has the search for near duplicates
RULES = ("empty", "transcript", "repetitive", "vague", "indistinct")
ALONE = ("--set", "vague.relevance=false", "--set", "indistinct.meaning=false")
JOB = """
import pathlib, sys
from curation.screening import screen
from training.run import Run
screen(Run(pathlib.Path(sys.argv[1])))
"""
# what published cleaning scripts do: repeated 4-grams by a Counter, difflib's ratio, a set of seen rows
PLAIN_SCREEN = """
import collections, difflib, gzip, itertools, json, sys
seen, flagged = set(), 0
with gzip.open(sys.argv[1], "rt", encoding="utf-8") as file:
    for line in itertools.islice(file, int(sys.argv[2])):
        row = json.loads(line)
        sides = [text.rpartition("\\n\\nAssistant:")[2] for text in (row["chosen"], row["rejected"])]
        for text in sides:
            words = text.lower().split()
            grams = collections.Counter(zip(words, words[1:], words[2:], words[3:]))
            flagged += not text.strip() or (len(words) > 8 and max(grams.values()) > 3)
        flagged += difflib.SequenceMatcher(None, *sides).ratio() > 0.95
        flagged += line in seen
        seen.add(line)
print(flagged)
"""


def run(folder: Path, wanted: int) -> Path:
    """Measure and print; returns the workspace, screened, for the other benchmarks."""
    source = data.make(folder / "source", wanted)
    file = str(folder / "source" / "bench" / "train.jsonl.gz")
    workspace = folder / "workspace"
    at = ["--workspace", str(workspace)]
    imported = measure.child("-m", "curation.cli", "import", str(folder / "source"), "--name", "bench", *at)
    plain = measure.child("-c", PLAIN_IMPORT, file, str(folder / "plain.sqlite"))
    again = measure.child("-m", "curation.cli", "import", str(folder / "source"), "--name", "bench", *at)
    part = min(wanted, 4000)  # the plain script would take an hour over all
    rules = [part for name in RULES for part in ("--filter", name)]
    whole = measure.child("-m", "curation.cli", "screen", "bench", *rules, *ALONE, *at)
    job = measure.child("-c", JOB, _again(workspace))
    naive = measure.child("-c", PLAIN_SCREEN, file, str(part))
    rows = [
        ("import", wanted, imported, plain),
        ("import again (nothing new)", wanted, again, plain),
        ("screen, as a person sees it", wanted, whole, naive),
        ("screen, the job alone", wanted, job, naive),
    ]
    measure.table(
        f"Import and rule screening of {wanted:,} pairs ({source}, repeated with edits), {sys.platform}",
        ("what", "pairs/s", "pairs per CPU second", "peak MB", "plain script, pairs/s", "ratio"),
        [
            (
                name, f"{pairs / cost.seconds:,.0f}", f"{pairs / cost.cpu:,.0f}", f"{cost.peak:,.0f}",
                f"{_pairs(base, wanted, part, naive) / base.seconds:,.0f}",
                f"{pairs / cost.seconds / (_pairs(base, wanted, part, naive) / base.seconds):.1f}x",
            )
            for name, pairs, cost, base in rows
        ],
    )  # fmt: skip
    return workspace


def _pairs(base: measure.Cost, wanted: int, part: int, naive: measure.Cost) -> int:
    return part if base is naive else wanted


def _again(workspace: Path) -> str:
    """The screening run's folder, without what it had finished, so that the job can be measured by itself."""
    folder = max(workspace.glob("runs/*-screen*"))
    for finished in (folder / "checkpoints").iterdir():
        finished.unlink()
    return str(folder)
