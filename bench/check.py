"""`bench check`: all that can be known of an entry in two minutes, before anyone spends hours on it."""

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from transformers.utils import logging

from bench.assemble import Request
from bench.battery.checks import BATTERY
from bench.entry import Entry
from bench.errors import BenchError
from bench.evaluate.apart import losses_apart
from bench.forbidden import forbidden
from bench.record import Record, read_log, read_record
from bench.run import place_of, run
from bench.setting import Places, Watch
from bench.spec import read_text
from bench.task import Task, read_task
from bench.train import Progress
from bench.verify import lint_record

LR_SPAN = 32.0  # least ratio of the ends of the learning rate's range (protocol B)
PAPER = "arXiv:0000.00000"  # the starter's
FIRST = 8  # steps compared over ranks: later, other last bits have grown by what the method makes of them
PATIENCE = 300.0  # seconds that another process may take


@dataclass(frozen=True)
class Line:
    ok: bool | None  # None: said, not judged
    title: str
    detail: str = ""
    hint: str | None = None


def check(path: Path, task_path: Path, data: Path) -> Iterator[Line]:
    """Yield a line for each thing looked at; the task is a short one, whose smallest rung is trained."""
    entry = Entry(path)
    yield from _read(entry)
    task = read_task(task_path)
    logging.disable_progress_bar()  # transformers draws one for each file of weights
    with tempfile.TemporaryDirectory(prefix="bench-check-") as folder:
        trial = _Trial(entry, task_path, task, data.absolute(), Path(folder))
        trial.begin()
        yield from _battery(entry)
        yield from trial.end()


def _read(entry: Entry) -> Iterator[Line]:
    findings = forbidden(read_text(entry.source), str(entry.source))
    if not findings:
        yield Line(True, "the source keeps to what is an optimizer's")
    for finding in findings:
        yield Line(False, "the source reaches past what is an optimizer's", str(finding), "CONTRIBUTING.md says why")
    if entry.facts.paper == PAPER:
        yield Line(None, "still to be filled in before it is sent", "paper and authors")
    rate = entry.facts.search.get("lr")
    if rate is None:
        yield Line(None if entry.facts.control else False, "there is a learning rate to search", "no [search.lr]")
    else:
        span = rate.high / rate.low if rate.low else 0.0
        hint = "widen [search.lr] on both sides of its default"
        yield Line(span >= LR_SPAN, f"the learning rate spans {LR_SPAN:g}x or more", f"{span:.4g}x", hint)


def _battery(entry: Entry) -> Iterator[Line]:
    for one in BATTERY:
        if not one.concerns(entry):
            continue
        try:
            one.run(entry)
        except BenchError as error:
            yield Line(False, one.says, error.what, error.hint)
        except Exception as error:
            said = f"raised {type(error).__name__}: {error}".splitlines()[0][:200]
            yield Line(False, one.says, said + place_of(error))
        else:
            yield Line(True, one.says)


class _Stopped(BaseException):
    """Ends a run as a kill does."""


@dataclass
class _Trial:
    """A short real run: whole, stopped and gone on with by another process, and on two ranks."""

    entry: Entry
    task_path: Path
    task: Task
    data: Path
    folder: Path

    def begin(self) -> None:
        """Start what other processes do, so that it is done meanwhile."""
        self.two_ranks = self._process("ranks", "--devices", "2", "--device", "cpu")
        self.resumed: subprocess.Popen[str] | None = None
        try:
            self._run("resumed", stop_after=self.task.steps(self._rung) // 2)
        except _Stopped:
            self.resumed = self._process("resumed")
        except BenchError:
            return  # the whole run says it

    def end(self) -> Iterator[Line]:
        try:
            path = self._run("whole")
        except BenchError as error:
            self.two_ranks.kill()
            yield Line(False, f"a short run of {self.task_path.stem}", error.what, error.hint)
            return
        record = read_record(path)
        loss = f"{record.initial_loss:.3f} to {record.score_loss:.3f} nats in {record.steps} steps" if (
            record.initial_loss and record.score_loss) else record.cause or record.outcome  # fmt: skip
        yield Line(record.outcome == "finished", f"a short run of {self.task_path.stem} finishes", loss)
        yield from self._partition(record)
        for tick in lint_record(record, self.task, read_log(path, record)):
            if tick.ok is not True:
                yield Line(tick.ok, f"protocol {tick.rule}: {tick.title}", tick.detail)
        if record.outcome == "finished":
            yield from self._proofs(path, record)

    def _proofs(self, path: Path, record: Record) -> Iterator[Line]:
        again, said = self._ended(self.resumed, "resumed")
        same = again is not None and (again.chains, again.weights) == (record.chains, record.weights)
        title = "stopped halfway, another process goes on to the same bits"
        yield Line(same, title, said, "all that a step depends on must stand in self.state or in the groups")
        shared, said = self._ended(self.two_ranks, "ranks")
        title = "two ranks read the same data and set out alike"
        if shared is None:
            yield Line(False, title, said)
        else:
            mine, theirs = (read_log(where, of).loss[:FIRST] for where, of in ((path, record), (self.ended_at, shared)))
            gap = max((abs(a - b) for a, b in zip(mine, theirs, strict=True) if a and b), default=math.inf)
            alike = shared.chains.data == record.chains.data and gap <= self.task.replay.band
            yield Line(alike, title, f"{gap:.2g} nats apart at most in the first {FIRST} steps")
        apart = losses_apart(
            self.task_path, self.folder / "weights" / record.run_id, self.data, record.machine.compiled
        )
        alike = (apart.evaluated, apart.score_loss) == (record.weights.evaluated, record.score_loss)
        yield Line(alike, "a process that gets only the weights scores them the same", f"{apart.score_loss} nats")

    def _partition(self, record: Record) -> Iterator[Line]:
        for role, count in record.facts.partition.items():
            yield Line(None, f"{role} parameters", f"{count.entry:,} by the entry, {count.harness:,} by the harness")

    @property
    def _rung(self) -> float:
        return self.task.budget.rungs[0]

    def _run(self, name: str, stop_after: int | None = None) -> Path:
        home = self.folder / name
        request = Request(self.task_path.stem, self.task, self.entry, self.entry.values({}), "bf16", self._rung,
                          "declared", 0, device="cpu")  # fmt: skip

        def progress(now: Progress, steps: int, batch_tokens: int) -> None:
            if stop_after is not None and now.step >= stop_after:
                raise _Stopped

        places = Places(self.data, home / "runs" / "work", home / "records")
        whole = replace(places, weights=self.folder / "weights") if stop_after is None else places
        return run(request, whole, Watch(progress=progress), checkpoint_seconds=0.0)

    def _process(self, name: str, *options: str) -> "subprocess.Popen[str]":
        home = self.folder / name
        home.mkdir(exist_ok=True)
        root = str(Path(__file__).parents[1])
        paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        words = ["run", str(self.task_path.absolute()), str(self.entry.path.absolute()), "--json", "--budget",
                 f"{self._rung:g}x", "--records", "records", *options]  # fmt: skip
        if "--device" not in options:
            words += ["--device", "cpu"]
        return subprocess.Popen(
            [sys.executable, "-m", "bench", *words], cwd=home, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": paths, "BENCH_DATA": str(self.data)},
        )  # fmt: skip

    def _ended(self, process: "subprocess.Popen[str] | None", name: str) -> tuple[Record | None, str]:
        """Return the record that another process made, or why there is none."""
        if process is None:
            return None, "the run ended before it could be stopped"
        try:
            out, err = process.communicate(timeout=PATIENCE)
            self.ended_at = self.folder / name / json.loads(out.splitlines()[-1])["record"]
            return read_record(self.ended_at), ""
        except subprocess.TimeoutExpired:
            process.kill()
            return None, f"no answer in {PATIENCE:g} s"
        except (IndexError, ValueError):
            return None, (err.strip() or "ended without a word").splitlines()[-1][:200]
