"""A workspace: one folder with the database, the runs, the releases and a cache, opened by one process at a time."""

from pathlib import Path
from threading import Lock
from typing import Any

from curation.board import Board, Clock, now
from curation.store.answers import Answered, AnswerStore, StudyClaim
from curation.store.database import Database
from curation.store.flags import FlagStore
from curation.store.pairs import PairStore
from curation.store.policies import PolicyStore
from curation.store.releases import ReleaseStore
from curation.store.scores import ScoreStore
from curation.store.studies import StudyStore
from curation.store.verdicts import Claim, Decision, VerdictStore

DATABASE = "workspace.duckdb"


class Workspace:
    """The stores over one folder. Raises Busy when another process holds it, NotAWorkspace when it is damaged."""

    def __init__(self, folder: Path, *, clock: Clock = now) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.clock = folder, clock
        self.runs, self.releases_folder, self.cache = folder / "runs", folder / "releases", folder / "cache"
        self.database = Database(folder / DATABASE)
        self.pairs = PairStore(self.database)
        self.flags = FlagStore(self.database)
        self.verdicts = VerdictStore(self.database)
        self.releases = ReleaseStore(self.database)
        self.studies = StudyStore(self.database)
        self.scores = ScoreStore(self.database)
        self.policies = PolicyStore(self.database)
        self.answers = AnswerStore(self.database, self.studies)
        self.held: dict[str, Any] = {}  # what an activity keeps in memory for its next question, by its name
        self._board: Board[Claim, Decision] | None = None
        self._raters: Board[StudyClaim, Answered] | None = None
        self._making = Lock()
        self.settling = Lock()  # sessions take turns in taking in what runs made

    @property
    def board(self) -> Board[Claim, Decision]:
        """Who holds and who has answered what, read from the store when it is first wanted."""
        with self._making:
            if self._board is None:
                self._board = Board(self.verdicts, clock=self.clock)
            return self._board

    @property
    def raters(self) -> Board[StudyClaim, Answered]:
        """The same of the studies' items."""
        with self._making:
            if self._raters is None:
                self._raters = Board(self.answers, clock=self.clock)
            return self._raters

    def close(self) -> None:
        """Let the database go, so that another process can open it."""
        self.database.close()
