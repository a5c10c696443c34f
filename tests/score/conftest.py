"""Synthetic runs: rows for scoring, and valid sealed records on disk."""

from pathlib import Path

import pytest

from bench.digest import digest_of
from bench.index import IndexRow
from bench.mode import read_mode
from bench.record import Inputs, Log, Machine, record_path, write_record
from bench.task import Task, read_task

ROOT = Path(__file__).parents[2]
TASK = read_task(ROOT / "tasks" / "smoke.toml")


def row(
    entry="muon",
    budget=1.0,
    seed=0,
    loss=3.0,
    *,
    outcome="finished",
    values=0,
    kind="0",
    track="tuned",
    mode="bf16",
    passes=1.0,
    made="2026-01-01T00:00:00Z",
    run_id=None,
    source=0,
    task=TASK,
    name="smoke",
    step_size=None,
):
    """Return the row that an index would hold of such a run."""
    facts = (entry, budget, seed, values, kind, track, mode, source, name)
    run_id = run_id or digest_of(facts)
    tokens = int(task.budget.tokens * budget)
    return IndexRow(
        run_id=run_id,
        path=f"records/{run_id}.json",
        task=name,
        task_digest=task.digest,
        entry=entry,
        entry_digest=digest_of([entry, source]),
        values_digest=digest_of(values),
        mode=mode,
        mode_digest=read_mode(mode).digest,
        budget=budget,
        track=track,
        seed=seed,
        machine_kind=digest_of(kind),
        harness=digest_of("harness"),
        outcome=outcome,
        cause=None if outcome == "finished" else f"{outcome} at step 7",
        tokens=tokens,
        charged_tokens=tokens * passes,
        select_loss=loss,
        score_loss=loss if outcome == "finished" else None,
        train_seconds=1.0,
        token_seconds=1e-6,
        made=made,
        plan=None,
        epochs=budget,  # one pass over the text is 1x
        step_size=step_size,
    )


def facts(entry="muon", budget=1.0, seed=0, loss=3.0, values=None, track="tuned", outcome="finished", task=TASK):
    """Return the JSON of a valid record, but for the two digests that write_record fills in."""
    some = digest_of("some")
    machine = {
        "processor": "toy",
        "instructions": "avx2",
        "threads": 1,
        "compiler": None,
        "compiled": False,
        "switches": {},
        "lock": some,
    }
    inputs = {
        "task": "smoke",
        "task_digest": task.digest,
        "entry": entry,
        "entry_digest": digest_of(entry),
        "values": values or {"lr": 0.01},
        "mode": "bf16",
        "mode_digest": read_mode("bf16").digest,
        "budget": budget,
        "track": track,
        "seed": seed,
        "harness": some,
        "machine_kind": Machine(**machine).kind,
    }
    tokens = task.tokens(budget)
    loss = loss if outcome == "finished" else None
    return {
        "schema": 1,
        "run_id": Inputs(**inputs).run_id,
        "inputs": inputs,
        "plan": None,
        "machine": machine,
        "who": "tester",
        "made": "2026-01-01T00:00:00Z",
        "outcome": outcome,
        "cause": None if outcome == "finished" else "loss is not finite",
        "steps": task.steps(budget),
        "tokens": tokens,
        "charged_tokens": float(tokens),
        "initial_loss": 5.5,
        "select_loss": loss,
        "score_loss": loss,
        "chains": {"data": some, "loss": some},
        "weights": {"initial": some, "final": some, "evaluated": some},
        "facts": {
            "weight_dtypes": ["float32"],
            "state_dtypes": ["float32"],
            "state_bytes_per_parameter": 4.0,
            "partition": {"hidden": {"entry": 1, "harness": 0}},
            "schedule": "decay",
            "last_multiplier": 0.01,
            "clip": 1.0,
            "clip_rate": 0.1,
            "update_rms": {"hidden": 0.2},
            "passes": 1.0,
            "epochs": 1.0,
            "validation": some,
        },
        "cost": {"train_seconds": 1.0, "step_seconds": 0.01, "peak_memory_bytes": None},
    }


def write(folder: Path, **what) -> Path:
    """Write one valid record with its log below the folder and return its path."""
    table = facts(**what)
    path = record_path(folder, "smoke", None, table["run_id"])
    log = Log(stride=1, loss=(), gradient_norm=(), curve=(), milestones=(), score_blocks=())
    write_record(path, table, log)
    return path


def runs(entry, losses, **what):
    """Return rows of one entry from {budget: losses by seed}."""
    return [row(entry, budget, seed, loss, **what) for budget, cell in losses.items() for seed, loss in enumerate(cell)]


@pytest.fixture
def task() -> Task:
    return TASK


@pytest.fixture
def make_row():
    return row


@pytest.fixture
def make_runs():
    return runs


@pytest.fixture
def make_record(tmp_path):
    """Return a function that writes a valid sealed record below tmp_path/records (or folder) and gives its path."""
    return lambda folder=None, **what: write(folder or tmp_path / "records", **what)


@pytest.fixture
def ladder():
    """A reference of 3 seeds on 5 rungs, noise 0.002."""
    means = {0.25: 3.95, 0.5: 3.70, 1.0: 3.53, 2.0: 3.41, 4.0: 3.32}
    return runs("adamw-ref", {budget: [mean - 0.002, mean, mean + 0.002] for budget, mean in means.items()})
