"""The one DuckDB file: opened once, schema brought up to date, every write under one lock, backup and restore."""

import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb

from curation.store.appending import Appends, Row
from curation.store.schema import MIGRATIONS

Cursor = duckdb.DuckDBPyConnection
Parameters = Mapping[str, Any] | Sequence[Any]


class Busy(Exception):
    """Another process holds the database."""


class NotSaved(OSError):
    """The disk is full or failed: nothing of the transaction was recorded, and it can be tried again."""


class NotAWorkspace(ValueError):
    """The file is no database of ours, is damaged, or was written by a newer version."""


class Database:
    """DuckDB lets one process open a file; within it every call takes its own cursor and all writes pass one lock."""

    def __init__(self, path: Path, *, memory_limit: str = "1GB") -> None:
        """Open or create the file. Raises Busy or NotAWorkspace, each with a sentence for a person."""
        self.path = path
        self._connection = _connect(path, memory_limit)
        self._lock = threading.Lock()
        self._appends = Appends(self._lock, self._insert)
        try:
            _migrate(self._connection, path)
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Write everything to the file and let it go."""
        with self._lock:
            self._connection.close()

    def rows(self, sql: str, parameters: Parameters | None = None) -> list[tuple[Any, ...]]:
        """All rows of a query, on a cursor of its own: sessions are threads."""
        with self._connection.cursor() as cursor:
            return cursor.execute(sql, parameters).fetchall()

    def records(self, sql: str, parameters: Parameters | None = None) -> list[dict[str, Any]]:
        """The same rows as dictionaries by column."""
        with self._connection.cursor() as cursor:
            found = cursor.execute(sql, parameters)
            names = [column[0] for column in found.description or ()]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def copy(self, sql: str, parameters: Parameters | None = None) -> None:
        """Run a COPY ... TO statement: it reads the database and writes a file outside it."""
        with self._connection.cursor() as cursor:
            cursor.execute(sql, parameters)

    @contextmanager
    def transaction(self) -> Iterator[Cursor]:
        """One short transaction under the writer lock: all of it or nothing."""
        with self._lock, self._connection.cursor() as cursor, _begun(cursor):
            yield cursor

    def append(self, table: str, *values: Any) -> None:
        """Add one row and return when it is on disk.

        Rows that other threads add meanwhile share the commit.
        """
        self._appends.add(Row(table, values))

    def backup(self, target: Path) -> None:
        """A copy of the database as it is now, which appears whole or not at all."""
        if target.resolve() == self.path.resolve():
            raise ValueError(f"{str(target)!r} is the workspace's own database: expected another file")
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:
            self._connection.execute("CHECKPOINT")
            _copy_whole(self.path, target)

    def _insert(self, batch: list[Row]) -> None:
        by_table: dict[str, list[Row]] = {}
        for one in batch:
            by_table.setdefault(one.table, []).append(one)
        with self._connection.cursor() as cursor, _begun(cursor):
            for table, rows in by_table.items():
                columns = [list(column) for column in zip(*(row.values for row in rows), strict=True)]
                marks = ", ".join(["unnest(?)"] * len(columns))  # a list a column: half the time of a VALUES row each
                cursor.execute(f"INSERT INTO {table} SELECT {marks}", columns)  # table: a name from our own code


def restore(backup: Path, path: Path, *, force: bool) -> Path | None:
    """Put a backup in the place of a workspace's database; what stood there is kept beside it and returned.

    The backup is opened and checked first. Raises NotAWorkspace, Busy, or ValueError when there is a database
    and `force` is not given.
    """
    if not backup.is_file():
        raise NotAWorkspace(f"no file {str(backup)!r}: expected a backup written by `elephant backup`")
    path.parent.mkdir(parents=True, exist_ok=True)
    incoming = path.with_name(path.name + ".incoming")
    shutil.copyfile(backup, incoming)
    try:
        try:
            Database(incoming).close()  # opens, migrates and writes it back: a damaged or foreign file stops here
        except NotAWorkspace as error:
            raise NotAWorkspace(str(error).replace(str(incoming), str(backup))) from None
        if not path.exists():
            os.replace(incoming, path)
            return None
        if not force:
            raise ValueError(f"{str(path)!r} exists: give --force to replace it (it is kept beside the new one)")
        with suppress(NotAWorkspace):  # a damaged one is what a backup is for
            _connect(path, "100MB").close()  # raises Busy while an app holds it; folds its log into the file
        kept = _free_name(path.with_name(path.name + ".before-restore"))
        os.replace(path, kept)
        if _log(path).exists():
            os.replace(_log(path), _log(kept))  # it belongs to what is kept, the backup must not be given it
        os.replace(incoming, path)
        return kept
    finally:
        incoming.unlink(missing_ok=True)
        _log(incoming).unlink(missing_ok=True)


def _log(path: Path) -> Path:
    """Where DuckDB keeps what is not yet in the file."""
    return path.with_name(path.name + ".wal")


def _connect(path: Path, memory_limit: str) -> Cursor:
    try:
        connection = duckdb.connect(str(path), config={"memory_limit": memory_limit})
        connection.execute("SET TimeZone = 'UTC'")
        return connection
    except duckdb.IOException as error:
        held = re.search(r"lock is held in .*?\(PID (\d+)\)", str(error))
        if held:
            raise Busy(
                f"{path} is in use by process {held.group(1)} (an open app or another command): "
                "stop it first, or do this in the app"
            ) from None
        raise NotAWorkspace(f"{path} cannot be opened as a database: {_first_line(error)}") from None
    except duckdb.ConnectionException:
        raise Busy(f"{path} is open in this process already: close it first") from None
    except duckdb.Error as error:
        raise NotAWorkspace(f"{path} cannot be opened as a database: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


@contextmanager
def _begun(cursor: Cursor) -> Iterator[None]:
    cursor.execute("BEGIN")
    try:
        yield
        cursor.execute("COMMIT")
    except BaseException as error:
        with suppress(duckdb.Error):  # a commit that failed has already rolled back
            cursor.execute("ROLLBACK")
        if isinstance(error, (duckdb.IOException, duckdb.TransactionException, duckdb.FatalException)):
            raise NotSaved(f"nothing was saved: {_first_line(error)}") from error
        raise


def _migrate(connection: Cursor, path: Path) -> None:
    """Bring an older file up to date, one numbered step a transaction; refuse a newer or a foreign one."""
    tables = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    if tables and "schema_versions" not in tables:
        raise NotAWorkspace(f"{path} is a DuckDB file of something else: it has no table schema_versions")
    version = 0
    if tables:
        try:
            (found,) = connection.execute("SELECT coalesce(max(version), 0) FROM schema_versions").fetchall()
        except duckdb.Error as error:
            raise NotAWorkspace(f"{path} is a DuckDB file of something else: {_first_line(error)}") from None
        version = found[0]
    if version > len(MIGRATIONS):
        raise NotAWorkspace(
            f"{path} was written by a newer Elephant Room (schema {version}, this one knows {len(MIGRATIONS)}): "
            "update the program"
        )
    for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
        with _begun(connection):
            connection.execute(statements)
            connection.execute("INSERT INTO schema_versions VALUES (?, now())", [number])


def _copy_whole(path: Path, target: Path) -> None:
    half = target.with_name(target.name + ".part")
    try:
        shutil.copyfile(path, half)
        os.replace(half, target)
    finally:
        half.unlink(missing_ok=True)


def _free_name(path: Path) -> Path:
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate
