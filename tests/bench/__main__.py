"""`make bench`: imports and screens, then measures keys, the queue, a study of many raters, what the reading filters and
reward models cost, and how PPO learns; or `python -m tests.bench queue` for some of it."""

import argparse
import platform
import tempfile
from pathlib import Path

from tests.bench import bulk, duplicates, embedding, keys, ppo, queue, scoring, studies, toxicity

PARTS = ("bulk", "keys", "queue", "studies", "embedding", "duplicates", "toxicity", "scoring", "ppo")


def main() -> None:
    """Run the benchmarks in one temporary folder; the bulk one makes the workspaces of the others."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", help=f"some of {', '.join(PARTS)}; all of them by default")
    parser.add_argument("--pairs", type=int, default=160_800)
    parser.add_argument("--small", type=int, default=8_552)
    parser.add_argument("--trl-python", default="", help="of ppo: the Python of an environment with trl 1.12 (it says how)")
    parser.add_argument("--seeds", type=int, default=3, help="of ppo")
    parser.add_argument("--smollm2", action="store_true", help="ppo of SmolLM2-135M instead of a tiny model")
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
        if "ppo" in what:
            ppo.run(Path(name, "ppo"), trl_python=given.trl_python, seeds=given.seeds, smollm2=given.smollm2)
        if "toxicity" in what:  # last: it loads models here, and a child's peak memory counts from its parent's
            toxicity.run(150)


if __name__ == "__main__":
    main()
