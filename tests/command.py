"""The `elephant` command as tests call it."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

from curation.cli import main

ROOT = Path(__file__).resolve().parent.parent


class Elephant:
    """The command on a workspace of its own: its entry point called here, or in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *arguments: object, expect: int = 0, apart: bool = False) -> str:
        """Run it; returns what it said on standard output, or on standard error when it is expected to refuse."""
        status, said, complained = (self._apart if apart else self._here)(list(map(str, arguments)))
        assert status == expect, complained
        if expect == 0:
            assert complained == ""  # no progress bar in a pipe
            return said
        assert "Traceback" not in complained
        return complained

    def _apart(self, arguments: list[str]) -> tuple[int, str, str]:
        around = {**os.environ, "ELEPHANT_WORKSPACE": str(self.folder), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "curation.cli", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=around, cwd=self.folder.parent)
        return done.returncode, done.stdout, done.stderr

    def _here(self, arguments: list[str]) -> tuple[int, str, str]:
        said, complained = io.StringIO(), io.StringIO()
        status: object = 0
        with (
            patch.dict(os.environ, ELEPHANT_WORKSPACE=str(self.folder)), patch.object(sys, "argv", ["elephant", *arguments]),
            contextlib.chdir(self.folder.parent), contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained),
        ):  # fmt: skip
            try:
                main()
            except SystemExit as ended:
                status = ended.code or 0
        assert isinstance(status, int)
        return status, said.getvalue(), complained.getvalue()
