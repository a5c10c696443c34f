"""What judging a bundle works on: its files, the clone that it is to be merged into, and what was found."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from bench.errors import BenchError
from bench.submission.files import Files, Finding, kind_of

T = TypeVar("T")
Values = dict[str, object]


@dataclass
class Desk:
    root: Path  # of the bundle's files, laid out as in a clone
    base: Path  # the clone
    files: Files
    findings: list[Finding]
    damaged: set[str]  # files that cannot be read: nothing more is said of them
    remarks: list[Finding] = field(default_factory=list)  # what a reader should know, and nothing is refused for

    def of_kind(self, kind: str) -> list[str]:
        return sorted(name for name in self.files if kind_of(name) == kind)

    def read(self, name: str, read: Callable[[Path], T]) -> T | None:
        """Return what the file holds, or None with a finding."""
        if name in self.damaged:
            return None
        try:
            return read(self.root / name)
        except BenchError as error:
            self.refused(name, error)
        except (ValueError, OSError) as error:
            self.add(name, "", f"cannot be read: {error}")
        return None

    @contextmanager
    def judging(self, name: str) -> Iterator[None]:
        """Make whatever stops the judging of a file a finding: a number too large, a text nested too deep.

        A bundle that brings a check to its end otherwise would go without the verdict of all the others.
        """
        try:
            yield
        except BenchError as error:
            self.refused(name, error)
        except Exception as error:
            self.add(name, "", f"cannot be judged: {type(error).__name__}: {short(error)}")

    def refused(self, name: str, error: BenchError) -> None:
        said = error.what.replace(f"{self.root}/", "").removeprefix(f"{name}: ")
        key, colon, reason = said.partition(": ")
        if kind_of(key):  # it is another file that is meant
            self.add(key, "", reason)
            return
        simple = colon and " " not in key
        self.add(name, key if simple else "", reason if simple else said)

    def add(self, file: str, key: str, reason: str) -> None:
        self.findings.append(Finding(file, key, reason))

    def remark(self, file: str, key: str, reason: str) -> None:
        self.remarks.append(Finding(file, key, reason))


def short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
