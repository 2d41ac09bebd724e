"""The review queue alone: the next pair and the decision, with one person and with 20 at once without pauses.

Beside it the plainest queue over the same tables: a SELECT for the first pair nobody has, then an INSERT, under one lock.
"""

import threading
import time
from collections import Counter
from pathlib import Path

from curation import review
from curation.review import View
from curation.workspace import Workspace
from tests.bench import measure

ALL = View(pool="all")


def run(sizes: dict[int, Path]) -> None:
    """Measure at each size; `sizes` maps a number of pairs to a workspace with the dataset `bench`."""
    rows = []
    for pairs, place in sizes.items():
        workspace = Workspace(place)
        review.next_card(workspace, "first", "bench", ALL)  # the queue is made once, at the first visit
        for people in (1, 20):
            rows.append(_row("ours", pairs, people, *_ours(workspace, people, each=2000 // people)))
            rows.append(_row("plain SQL", pairs, people, *_plain(workspace, people, each=100 // people)))
        workspace.close()
    times = [f"{what} {cut} ms" for what in ("next", "decide") for cut in ("p50", "p95")]
    headings = ("queue", "pairs", "people", *times, "answers/min", "pairs twice")
    measure.table("Next pair and decision, no pauses, overlap 1", headings, rows)


def _row(name: str, pairs: int, people: int, nexts: list[float], decides: list[float], seconds: float, twice: int) -> list[str]:
    cells = [f"{1000 * value:.1f}" for value in (*measure.p50_p95(nexts), *measure.p50_p95(decides))]
    return [name, f"{pairs:,}", str(people), *cells, f"{60 * len(decides) / seconds:,.0f}", str(twice)]


def _ours(workspace: Workspace, people: int, each: int) -> tuple[list[float], list[float], float, int]:
    nexts: list[float] = []
    decides: list[float] = []
    given: list[str] = []

    def work(person: str) -> None:
        for _ in range(each):
            began = time.perf_counter()
            card = review.next_card(workspace, person, "bench", ALL)
            nexts.append(time.perf_counter() - began)
            assert card is not None
            given.append(card.claim.pair_id)
            began = time.perf_counter()
            review.decide(workspace, card.claim.claim_id, person, "A")
            decides.append(time.perf_counter() - began)

    seconds = _together(people, work)
    return nexts, decides, seconds, sum(count > 1 for count in Counter(given).values())


def _plain(workspace: Workspace, people: int, each: int) -> tuple[list[float], list[float], float, int]:
    database = workspace.database
    with database.transaction() as cursor:
        cursor.execute("CREATE TEMP TABLE IF NOT EXISTS plain (pair_id VARCHAR, person VARCHAR)")
    nexts: list[float] = []
    decides: list[float] = []
    given: list[str] = []
    lock = threading.Lock()

    def work(person: str) -> None:
        for _ in range(each):
            began = time.perf_counter()
            with lock:
                (found,) = database.rows(
                    """
                    SELECT r.pair_id FROM dataset_rows AS r
                    ANTI JOIN verdict_events AS v ON v.pair_id = r.pair_id
                    ANTI JOIN claims AS c ON c.pair_id = r.pair_id
                    WHERE r.dataset = 'bench' ORDER BY r."row" LIMIT 1
                    """
                )
                pair = workspace.pairs.pair(found[0])
                at = workspace.clock()
                workspace.database.append("claims", _name(), "plain", pair.pair_id, person, "open", "A", at, at)
            nexts.append(time.perf_counter() - began)
            given.append(pair.pair_id)
            began = time.perf_counter()
            values = (_name(), "plain", pair.pair_id, f"plain {person}", "same", "open", "A", 1.0, "", [], workspace.clock())
            workspace.database.append("verdict_events", *values)
            decides.append(time.perf_counter() - began)

    seconds = _together(people, work)
    return nexts, decides, seconds, sum(count > 1 for count in Counter(given).values())


def _name() -> str:
    from curation.store.verdicts import new_id

    return new_id()


def _together(people: int, work: "object") -> float:
    threads = [threading.Thread(target=work, args=(f"person {number}",)) for number in range(people)]  # type: ignore[arg-type]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began
