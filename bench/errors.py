"""What a user caused, as opposed to what we caused (which is an assert)."""

import difflib
from collections.abc import Iterable


class BenchError(Exception):
    """A user's mistake: printed as one clear line, and an indented one with the likely fix, never as a traceback."""

    status = 2  # the command's exit status

    def __init__(self, what: str, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return self.what if self.hint is None else f"{self.what}\n  {self.hint}"


class PeerLost(BenchError):
    """Another rank is gone, or the connection to it; what it leaves is a run that can go on."""

    status = 75  # EX_TEMPFAIL


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return '; did you mean X?' for the nearest known word, or nothing where none is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""
