"""A submission that stands, made once, and ways to spoil a copy of it as a forger would: seals and names made anew."""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from submitted import Clone, copied, submitted

from bench.digest import digest_of, digest_of_bytes
from bench.record import Inputs, seal
from bench.submission.judge import verify


@pytest.fixture(scope="session")
def clone(tmp_path_factory) -> Clone:
    return submitted(tmp_path_factory.mktemp("clone"))


@dataclass
class Forgery:
    """A copy of the submission, to be spoilt."""

    folder: Path
    clone: Clone

    def find(self, pattern: str) -> list[Path]:
        return sorted(path for path in self.folder.rglob(pattern) if path.name.count(".") == 1 or "*.log" in pattern)

    @property
    def records(self) -> list[Path]:
        return sorted((self.folder / "leaderboard" / "records").rglob("*.json"))

    @property
    def record(self) -> Path:
        return self.records[0]

    @property
    def plan(self) -> Path:
        return next((self.folder / "leaderboard" / "plans").rglob("*.json"))

    @property
    def ledger(self) -> Path:
        return next((self.folder / "leaderboard" / "ledgers").rglob("*.jsonl"))

    def forge(self, change: Callable[[dict], None], path: Path | None = None, rename: bool = True) -> Path:
        """Change a record's facts and seal it anew, with the run_id and the name that its inputs then have."""
        path = path or self.record
        facts = json.loads(path.read_text())
        change(facts)
        log = path.with_suffix(".log.gz")
        if rename:
            facts["run_id"] = Inputs.model_validate_json(json.dumps(facts["inputs"])).run_id
        target = path.with_name(f"{facts['run_id']}.json")
        packed = log.read_bytes()
        for old in (path, log):
            old.unlink()
        target.write_text(json.dumps(seal(facts)))
        target.with_suffix(".log.gz").write_bytes(packed)
        return target

    def forge_log(self, change: Callable[[dict], None]) -> Path:
        """Change a record's log, and the digest of it that the record has."""
        path = self.record.with_suffix(".log.gz")
        log = json.loads(gzip.decompress(path.read_bytes()))
        change(log)
        text = json.dumps(log, separators=(",", ":")).encode()
        path.write_bytes(gzip.compress(text, mtime=0))
        return self.forge(lambda facts: facts.update(log=digest_of_bytes(text)))

    def forge_ledger(self, change: Callable[[list[dict]], None]) -> None:
        """Change the trials and chain them anew."""
        trials = [json.loads(line) for line in self.ledger.read_text().splitlines()]
        change(trials)
        before = self.clone.plan.digest
        for number, trial in enumerate(trials):
            trial.update(number=number, before=before)
            before = trial["digest"] = digest_of({k: v for k, v in trial.items() if k != "digest"})
        self.ledger.write_text("".join(json.dumps(trial, separators=(",", ":")) + "\n" for trial in trials))

    def said(self) -> list[str]:
        """Return what the bundle is refused for."""
        return [str(finding) for finding in verify(self.folder, self.clone.root).findings]


@pytest.fixture
def forgery(clone, tmp_path) -> Forgery:
    return Forgery(copied(clone, tmp_path / "bundle"), clone)
