"""The database file: brought up to date, held by one process, never half written, backed up and restored."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime

import duckdb
import pytest

from curation.store import database as module
from curation.store.database import Busy, Database, NotAWorkspace, restore
from curation.store.flags import Screening
from curation.store.schema import MIGRATIONS
from curation.workspace import Workspace
from tests.conftest import ROOT, import_rows, numbered, until

COLUMNS = "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT internal ORDER BY ALL"


@pytest.fixture
def database(tmp_path):
    opened = Database(tmp_path / "one.duckdb")
    yield opened
    opened.close()


def undone(database):
    """The rows the tests append: (claim_id, time) of the table undos."""
    return sorted(claim for (claim,) in database.rows("SELECT claim_id FROM undos"))


def append(database, claim):
    database.append("undos", claim, "2026-11-02T09:00:00Z")


# ---- opening


@pytest.mark.parametrize("version", range(len(MIGRATIONS) + 1))
def test_a_file_of_any_earlier_version_is_brought_up_to_date(tmp_path, version):
    with duckdb.connect(str(tmp_path / "old.duckdb")) as old:
        for number, statements in enumerate(MIGRATIONS[:version], start=1):
            old.execute(statements)
            old.execute("INSERT INTO schema_versions VALUES (?, now())", [number])
    opened, fresh = Database(tmp_path / "old.duckdb"), Database(tmp_path / "new.duckdb")
    assert opened.rows(COLUMNS) == fresh.rows(COLUMNS)
    assert opened.rows("SELECT version FROM schema_versions ORDER BY 1") == [(n,) for n in range(1, len(MIGRATIONS) + 1)]
    opened.close()
    fresh.close()


def test_a_later_step_keeps_what_is_stored_and_one_that_fails_leaves_no_trace(tmp_path, monkeypatch):
    path = tmp_path / "one.duckdb"
    first = Database(path)
    append(first, "kept")
    first.close()
    broken = "ALTER TABLE undos ADD COLUMN why VARCHAR; INSERT INTO no_such_table VALUES (1)"
    monkeypatch.setattr(module, "MIGRATIONS", (*MIGRATIONS, broken))
    with pytest.raises(duckdb.CatalogException):
        Database(path)
    monkeypatch.setattr(module, "MIGRATIONS", (*MIGRATIONS, "ALTER TABLE undos ADD COLUMN why VARCHAR DEFAULT 'none'"))
    second = Database(path)
    assert second.rows("SELECT claim_id, why FROM undos") == [("kept", "none")]
    second.close()
    monkeypatch.setattr(module, "MIGRATIONS", MIGRATIONS)
    with pytest.raises(NotAWorkspace) as refused:
        Database(path)
    known = len(MIGRATIONS)
    assert str(refused.value) == (
        f"{path} was written by a newer Elephant Room (schema {known + 1}, this one knows {known}): update the program"
    )


def test_files_of_something_else_are_refused_and_left_as_they_are(tmp_path):
    for name, statements in (("other", "CREATE TABLE t (x INTEGER)"), ("alike", "CREATE TABLE schema_versions (id VARCHAR)")):
        path = tmp_path / f"{name}.duckdb"
        with duckdb.connect(str(path)) as foreign:
            foreign.execute(statements)
        before = path.read_bytes()
        with pytest.raises(NotAWorkspace, match="is a DuckDB file of something else"):
            Database(path)
        assert path.read_bytes() == before
    (tmp_path / "garbage").write_bytes(b"garbage" * 10_000)
    with pytest.raises(NotAWorkspace, match="garbage cannot be opened as a database: "):
        Database(tmp_path / "garbage")
    assert (tmp_path / "garbage").read_bytes() == b"garbage" * 10_000


OPEN = """
import sys
from pathlib import Path
from curation.store.database import Busy, Database
try:
    Database(Path(sys.argv[1])).close()
    print("opened")
except Busy as error:
    print(error)
"""


def in_another_process(code, *arguments):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_second_process_is_told_who_holds_the_file(tmp_path):
    path = tmp_path / "one.duckdb"
    held = Database(path)
    assert in_another_process(OPEN, path) == (
        f"{path} is in use by process {os.getpid()} (an open app or another command): stop it first, or do this in the app\n"
    )
    held.close()
    assert in_another_process(OPEN, path) == "opened\n"


# ---- writing


def test_rows_appended_by_many_threads_are_all_there(database):
    def write(thread):
        for number in range(50):
            append(database, f"{thread}-{number}")

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(write, range(16)))
    assert undone(database) == sorted(f"{thread}-{number}" for thread in range(16) for number in range(50))


def test_an_appended_row_can_be_read_when_append_returns(database):
    def write(thread):
        for number in range(20):
            append(database, f"{thread}-{number}")
            assert database.rows("SELECT 1 FROM undos WHERE claim_id = $1", [f"{thread}-{number}"]) == [(1,)]

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(8)))


def test_of_rows_appended_together_a_bad_one_fails_alone(database):
    append(database, "taken")
    names = ["taken" if n % 10 == 3 else f"row-{n}" for n in range(40)]

    def write(name):
        try:
            append(database, name)
        except duckdb.ConstraintException:
            return "refused"
        return "written"

    with ThreadPoolExecutor(len(names)) as threads:
        with database.transaction():  # it holds the lock, so that they all wait together
            pressed = [threads.submit(write, name) for name in names]
            until(lambda: len(database._appends._waiting) == len(names))
        told = [one.result() for one in pressed]
    assert told == ["refused" if name == "taken" else "written" for name in names]
    assert undone(database) == sorted({*names})


def test_rows_for_several_tables_share_a_commit(database):
    def write(number):
        if number % 2:
            append(database, f"{number}")
        else:
            database.append("claim_ends", f"{number}", "skipped", "2026-11-02T09:00:00Z")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(40)))
    assert undone(database) == sorted(f"{n}" for n in range(1, 40, 2))
    assert database.rows("SELECT count(*) FROM claim_ends") == [(20,)]


def test_a_transaction_is_all_or_nothing(database):
    def interrupted():
        with database.transaction() as cursor:
            cursor.execute("INSERT INTO undos VALUES ('lost', now())")
            assert cursor.execute("SELECT count(*) FROM undos").fetchall() == [(1,)]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert undone(database) == []
    with database.transaction() as cursor:
        cursor.execute("INSERT INTO undos VALUES ('kept', now())")
    append(database, "after")
    assert undone(database) == ["after", "kept"]


def test_a_reader_sees_nothing_of_a_transaction_that_is_not_over(database):
    with database.transaction() as cursor:
        cursor.execute("INSERT INTO undos VALUES ('half', now())")
        assert undone(database) == []
    assert undone(database) == ["half"]


STREAM = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from concurrent.futures import ThreadPoolExecutor
from curation.store.verdicts import Decision
from curation.workspace import Workspace

workspace = Workspace(Path(sys.argv[1]))

def write(thread):
    for number in range(1_000_000):
        name = f"{thread}-{number}"
        now = datetime.now(UTC)
        workspace.verdicts.decide(Decision(name, "d", "pair", name, "same", "flagged", "A", 1.0, "", [], now))
        sys.stdout.write(name + "\\n")
        sys.stdout.flush()

with ThreadPoolExecutor(4) as threads:
    list(threads.map(write, range(4)))
"""


def test_a_killed_process_loses_no_verdict_it_has_acknowledged(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", STREAM, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    told = [process.stdout.readline().strip() for _ in range(300)]
    os.kill(process.pid, signal.SIGKILL)
    rest = process.stdout.read()  # what it had said before it died; a last line may be cut short
    told += [line.strip() for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    assert process.wait() == -signal.SIGKILL
    opened = Database(tmp_path / "workspace.duckdb")
    there = {claim for (claim,) in opened.rows("SELECT claim_id FROM verdict_events")}
    opened.close()
    assert len(told) >= 300
    assert set(told) - there == set()
    assert len(there) <= len(told) + 4 + 1  # one in each thread may be written and not yet told, one line may be cut


# ---- backup


def test_a_backup_brings_everything_back(tmp_path, database):
    for number in range(100):
        append(database, f"{number:03}")
    database.backup(tmp_path / "safe" / "backup.duckdb")
    append(database, "later")
    assert restore(tmp_path / "safe" / "backup.duckdb", tmp_path / "new" / "two.duckdb", force=False) is None
    restored = Database(tmp_path / "new" / "two.duckdb")
    assert undone(restored) == [f"{number:03}" for number in range(100)]
    assert restored.rows(COLUMNS) == database.rows(COLUMNS)
    restored.close()
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == ["two.duckdb"]
    assert sorted(file.name for file in (tmp_path / "safe").iterdir()) == ["backup.duckdb"]


def test_a_backup_can_be_made_while_others_write_and_read(tmp_path, database):
    def write(number):
        append(database, f"{number:03}")
        return undone(database)

    with ThreadPoolExecutor(4) as threads:
        writing = [threads.submit(write, number) for number in range(100)]
        for number in range(5):
            database.backup(tmp_path / f"backup-{number}")
        assert len([one.result() for one in writing]) == 100
    database.backup(tmp_path / "last")
    sizes = []
    for name in [*(f"backup-{number}" for number in range(5)), "last"]:
        copy = Database(tmp_path / name)
        sizes.append(len(undone(copy)))
        copy.close()
    assert sizes == sorted(sizes)
    assert sizes[-1] == 100


def test_a_backup_never_lands_on_the_database_itself(database):
    append(database, "kept")
    with pytest.raises(ValueError, match="is the workspace's own database"):
        database.backup(database.path)
    assert undone(database) == ["kept"]


@pytest.fixture
def two(tmp_path):
    """A backup that holds "saved", and a database that holds "present"."""
    for name, claim in (("backup", "saved"), ("present.duckdb", "present")):
        opened = Database(tmp_path / name)
        append(opened, claim)
        opened.close()
    return tmp_path / "backup", tmp_path / "present.duckdb"


def held_by(path):
    opened = Database(path)
    found = undone(opened)
    opened.close()
    return found


def test_restoring_over_a_database_needs_force_and_keeps_the_old_one(two):
    backup, present = two
    with pytest.raises(ValueError, match=r"exists: give --force to replace it"):
        restore(backup, present, force=False)
    assert held_by(present) == ["present"]
    kept = restore(backup, present, force=True)
    assert (held_by(present), held_by(kept), held_by(backup)) == (["saved"], ["present"], ["saved"])
    append_to(present, "since")
    kept_too = restore(backup, present, force=True)
    assert (kept_too != kept, held_by(kept_too), held_by(present)) == (True, ["saved", "since"], ["saved"])
    assert list(present.parent.glob("*incoming*")) == []


def append_to(path, claim):
    opened = Database(path)
    append(opened, claim)
    opened.close()


def test_a_backup_that_is_damaged_foreign_or_missing_is_refused_and_changes_nothing(two):
    backup, present = two
    folder = present.parent
    with duckdb.connect(str(folder / "foreign")) as foreign:
        foreign.execute("CREATE TABLE t (x INTEGER)")
    (folder / "cut").write_bytes(backup.read_bytes()[:5000])
    (folder / "garbage").write_bytes(b"garbage" * 10_000)
    before = present.read_bytes()
    for name in ("foreign", "cut", "garbage", "missing"):
        with pytest.raises(NotAWorkspace):
            restore(folder / name, present, force=True)
    assert present.read_bytes() == before
    assert [file.name for file in folder.iterdir() if "restore" in file.name or "incoming" in file.name] == []


def test_a_backup_takes_the_place_of_a_damaged_database(two):
    backup, present = two
    present.write_bytes(b"garbage" * 10_000)
    present.with_name("present.duckdb.wal").write_bytes(b"its log")
    kept = restore(backup, present, force=True)
    assert held_by(present) == ["saved"]
    assert (kept.read_bytes(), kept.with_name(kept.name + ".wal").read_bytes()) == (b"garbage" * 10_000, b"its log")


def test_a_database_that_is_open_is_not_replaced(two):
    backup, present = two
    opened = Database(present)
    with pytest.raises(Busy, match="is open in this process already"):
        restore(backup, present, force=True)
    code = """if True:
        import sys
        from pathlib import Path
        from curation.store.database import Busy, restore
        try:
            restore(Path(sys.argv[1]), Path(sys.argv[2]), force=True)
        except Busy as error:
            print(error)
    """
    assert f"{present} is in use by process {os.getpid()} " in in_another_process(code, backup, present)
    append(opened, "still here")
    assert undone(opened) == ["present", "still here"]
    opened.close()
    assert held_by(present) == ["present", "still here"]


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from curation import review
from curation.store.database import NotSaved
from curation.workspace import Workspace

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
everything = review.View(pool="all")
workspace = Workspace(Path(sys.argv[1]))
said, refused = [], 0
for number in range(60):
    if number == 20:  # from here on no file may grow: what a full disk answers
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    if number == 40:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    try:
        card = review.next_card(workspace, "ana", "small", everything)
        review.decide(workspace, card.claim.claim_id, "ana", "A")
        said.append(card.pair.pair_id)
    except NotSaved as error:
        assert "nothing was saved" in str(error)
        refused += 1
print(refused, *said)
"""


def test_a_full_disk_refuses_answers_with_a_sentence_and_loses_none(workspace, tmp_path):
    import_rows(workspace, numbered(100))
    workspace.close()
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(workspace.folder)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    refused, *said = done.stdout.split()
    assert (int(refused), len(set(said))) == (20, 40)
    assert {one.pair_id for one in Workspace(workspace.folder).verdicts.standing()} == set(said)


def test_a_workspace_of_the_first_version_keeps_its_flags_and_its_screenings_when_it_is_brought_up_to_date(tmp_path):
    at = datetime(2026, 11, 1, tzinfo=UTC)
    with closing(duckdb.connect(str(tmp_path / "workspace.duckdb"))) as old:
        old.execute(MIGRATIONS[0])
        old.execute("INSERT INTO schema_versions VALUES (1, now())")
        old.execute("INSERT INTO screenings VALUES ('run', 'd', 'vague', 1, '{}', 3, 2, ?)", [at])
        old.execute(
            "INSERT INTO all_flags VALUES ('run', 'p1', 'vague', 'chosen', 0.4, 'a'), ('run', 'p2', 'vague', 'both', 0.9, 'b')"
        )
    with closing(Workspace(tmp_path)) as opened:
        assert opened.flags.current("d") == [Screening("run", "d", "vague", 1, "{}", 3, 2, at, 0.0, "")]
        found = [opened.flags.of_pair("d", pair_id) for pair_id in ("p1", "p2")]
        assert found == [
            [{"filter": "vague", "side": "chosen", "score": 0.4, "reason": "a", "detail": ""}],
            [{"filter": "vague", "side": "both", "score": 0.9, "reason": "b", "detail": ""}],
        ]
        opened.flags.set_threshold("d", "vague", 0.5, "ana", at)
        assert [one.flagged for one in opened.flags.current("d")] == [1]
        with pytest.raises(ValueError, match=r"the threshold 1.5 of vague: expected 0 to 1"):
            opened.flags.set_threshold("d", "vague", 1.5, "ana", at)
