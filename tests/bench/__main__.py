"""`make bench`: imports and screens, then measures keys and the queue; or `python -m tests.bench queue` for some of it."""

import argparse
import platform
import tempfile
from pathlib import Path

from tests.bench import bulk, keys, queue


def main() -> None:
    """Run the benchmarks in one temporary folder; the bulk one makes the workspaces of the others."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=["queue", "keys"], help="bulk is always run")
    parser.add_argument("--pairs", type=int, default=160_800)
    parser.add_argument("--small", type=int, default=8_552)
    given = parser.parse_args()
    print(f"Python {platform.python_version()}, {platform.machine()}")  # noqa: T201
    with tempfile.TemporaryDirectory(prefix="elephant-bench-") as name:
        places = {pairs: bulk.run(Path(name, str(pairs)), pairs) for pairs in (given.small, given.pairs)}
        if "keys" in given.what:
            keys.run(places[given.pairs])
        if "queue" in given.what:
            queue.run(places)


if __name__ == "__main__":
    main()
