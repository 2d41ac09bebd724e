"""`make bench`: imports and screens, then measures keys, the queue, a study of many raters, and what the reading filters
and reward models cost; or `python -m tests.bench queue` for some of it."""

import argparse
import platform
import tempfile
from pathlib import Path

from tests.bench import bulk, duplicates, embedding, keys, queue, scoring, studies, toxicity

PARTS = ("bulk", "keys", "queue", "studies", "embedding", "duplicates", "toxicity", "scoring")


def main() -> None:
    """Run the benchmarks in one temporary folder; the bulk one makes the workspaces of the others."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", help=f"some of {', '.join(PARTS)}; all of them by default")
    parser.add_argument("--pairs", type=int, default=160_800)
    parser.add_argument("--small", type=int, default=8_552)
    given = parser.parse_args()
    print(f"Python {platform.python_version()}, {platform.machine()}")  # noqa: T201
    what = given.what or PARTS
    with tempfile.TemporaryDirectory(prefix="elephant-bench-") as name:
        if {"bulk", "keys", "queue"} & set(what):  # the first makes the workspaces of the others
            places = {pairs: bulk.run(Path(name, str(pairs)), pairs) for pairs in (given.small, given.pairs)}
        if "keys" in what:
            keys.run(places[given.pairs])
        if "queue" in what:
            queue.run(places)
        if "studies" in what:
            studies.run(Path(name, "studies"))
        if "embedding" in what:
            embedding.run(Path(name, "embedding"))
        if "duplicates" in what:
            duplicates.run(Path(name, "duplicates"))
        if "scoring" in what:
            scoring.run(Path(name, "scoring"))
        if "toxicity" in what:  # last: it loads models here, and a child's peak memory counts from its parent's
            toxicity.run(150)


if __name__ == "__main__":
    main()
