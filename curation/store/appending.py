"""Rows that many threads add at once: each returns when its row is on disk, and those who wait share one commit."""

import threading
from collections.abc import Callable
from typing import Any


class Row:
    """A row on its way to a table."""

    def __init__(self, table: str, values: tuple[Any, ...]) -> None:
        self.table, self.values = table, values
        self.written = False
        self.error: Exception | None = None
        self._asleep = threading.Lock()
        self._asleep.acquire()

    def sleep(self) -> None:
        """Wait until `wake`."""
        self._asleep.acquire()

    def wake(self) -> None:
        """Let the thread that waits for this row go on."""
        self._asleep.release()


class Appends:
    """One thread at a time leads: it writes what all have brought, wakes them, and hands the lead to one who came since.

    `insert` writes rows in one transaction or raises. Waking people one by one, instead of having all queue for the
    database's lock, is what makes the next batch as large as the number of people.
    """

    def __init__(self, lock: threading.Lock, insert: Callable[[list[Row]], None]) -> None:
        self._lock, self._insert = lock, insert
        self._mailbox = threading.Lock()
        self._waiting: list[Row] = []
        self._led = False

    def add(self, row: Row) -> None:
        """Return when the row is on disk; raise what was wrong with it."""
        with self._mailbox:
            self._waiting.append(row)
            lead, self._led = not self._led, True
        if not lead:
            row.sleep()
        if not row.written and row.error is None:
            self._lead(row)
        if row.error is not None:
            raise row.error

    def _lead(self, own: Row) -> None:
        batch: list[Row] = []
        try:
            with self._lock:
                with self._mailbox:
                    batch, self._waiting = self._waiting, []
                self._write(batch)
        finally:  # also when interrupted: rows that were not written go back, and one of their threads leads
            done = [one for one in batch if one.written or one.error is not None]
            with self._mailbox:
                self._waiting[:0] = [one for one in batch if one not in done and one is not own]
                heir = self._waiting[0] if self._waiting else None
                self._led = heir is not None
            for one in [*done, heir]:
                if one is not None and one is not own:
                    one.wake()

    def _write(self, batch: list[Row]) -> None:
        try:
            self._insert(batch)
        except Exception as error:  # noqa: BLE001  handed to the threads that asked
            if len(batch) == 1:
                batch[0].error = error
            else:  # one of them is at fault: let it alone carry the error
                for one in batch:
                    self._write([one])
        else:
            for one in batch:
                one.written = True
