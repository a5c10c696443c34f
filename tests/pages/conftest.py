"""A small benchmark on disk: tasks, entries and sealed records whose losses follow a made-up law."""

import sys
from pathlib import Path

import pytest

from bench.digest import digest_of
from bench.mode import read_mode
from bench.pages.build import gather, pages, read_sources
from bench.pages.views import board_view
from bench.record import Inputs, Log, Machine, Milestone, Point, record_path, write_record
from bench.task import read_task

ROOT = Path(__file__).parents[2]
NANO = read_task(ROOT / "tasks" / "nano.toml")
SMOKE = read_task(ROOT / "tasks" / "smoke.toml")
HOSTILE = '<script>alert(1)</script> & "quotes"'
MACHINE = {"processor": "Toy <CPU>", "instructions": "avx2", "threads": 1, "compiler": None, "compiled": False,
           "switches": {}, "lock": digest_of("lock")}  # fmt: skip
SPEEDUPS = {"base": 1.0, "quick": 1.35, "slow": 0.8, "strange": 1.02}  # what the law below gives each entry


def law(entry, budget, seed):
    tokens = budget * SPEEDUPS[entry]
    return 0.6 * tokens**-0.35 + 1.7 + 0.004 * ((seed * 7 + int(budget * 4) * 3 + len(entry)) % 5 - 2)


def record_facts(
    entry="quick",
    budget=1.0,
    seed=0,
    outcome="finished",
    task=NANO,
    name="nano",
    track="declared",
    mode="bf16",
    inputs=None,
    facts=None,
    **changed,
):
    """Return a valid record's JSON, but for what write_record fills in; changed replaces keys at the top."""
    planned = {"task": name, "task_digest": task.digest, "entry": entry, "entry_digest": digest_of(entry),
               "values": {"lr": 0.02, "warmup_fraction": 0.1}, "mode": mode, "mode_digest": read_mode(mode).digest,
               "budget": budget, "track": track, "seed": seed, "harness": digest_of("harness"),
               "machine_kind": Machine(**MACHINE).kind,
               **(inputs or {})}  # fmt: skip
    steps, done = task.steps(budget), outcome == "finished"
    loss = law(entry, budget, seed) if done else None
    hidden, everything = task.matrix_parameters, task.parameters
    measured = {
        "weight_dtypes": ["float32"], "state_dtypes": ["float32"], "state_bytes_per_parameter": 4.0,
        "partition": {"hidden": {"entry": hidden, "harness": 0},
                      "embedding": {"entry": 0, "harness": everything - hidden}},
        "schedule": "decay", "last_multiplier": 1 / (0.9 * steps), "clip": 1.0, "clip_rate": 0.125,
        "update_rms": {"hidden": 0.0021}, "passes": 1.0,
        "epochs": budget / 1.8, "validation": digest_of("validation"), **(facts or {}),
    }  # fmt: skip
    table = {
        "schema": 1, "run_id": Inputs(**planned).run_id, "inputs": planned, "plan": None, "machine": MACHINE,
        "who": "tester <t@example>", "made": "2026-01-01T00:00:00+00:00", "outcome": outcome,
        "cause": None if done else "loss nan and gradient norm <nan> at step 7", "steps": steps if done else 7,
        "tokens": task.tokens(budget) if done else 7 * task.training.batch_tokens, "charged_tokens": 0.0,
        "initial_loss": 5.6, "select_loss": loss, "score_loss": loss,
        "chains": {"data": digest_of(["data", seed, budget]), "loss": digest_of(["loss", entry, seed, budget])},
        "weights": {"initial": digest_of(["weights", seed]), "final": digest_of(["final", entry]), "evaluated": None},
        "facts": measured, "cost": {"train_seconds": 61.5, "step_seconds": 0.121, "peak_memory_bytes": 300 << 20},
    }  # fmt: skip
    table["charged_tokens"] = table["tokens"] * measured["passes"]
    return {**table, **changed}


def write(folder, **what):
    """Write one sealed record with a log below the folder and return its path."""
    table = record_facts(**what)
    tokens, steps = table["tokens"], table["steps"]
    end = table["score_loss"] or 9.0
    path = record_path(folder, table["inputs"]["task"], table["plan"], table["run_id"])
    log = Log(
        stride=1, loss=tuple(end + 3.5 * 0.99**i + 0.05 * ((i * 7) % 5 - 2) for i in range(steps)),
        gradient_norm=(0.8,) * steps,
        curve=tuple(Point(tokens=tokens * i // 8, loss=end + 3.5 * 0.3**i, train_seconds=7.5 * i) for i in range(9)),
        milestones=(Milestone(step=steps, data=table["chains"]["data"], loss=table["chains"]["loss"], update_rms={}),),
        score_blocks=(),
    )  # fmt: skip
    write_record(path, table, log)
    return path


def write_entry(folder, name, title, extra=""):
    home = folder / name
    home.mkdir(parents=True)
    (home / "optimizer.py").write_text(
        '"""A toy."""\n\n\nclass Hyperparameters:\n    lr: float\n\n\ndef build(roles, hp, run):\n    return []\n'
    )
    (home / f"{name}.toml").write_text(
        f"title = '{title}'\nfamily = 'element-wise'\n"
        f"paper = 'arXiv:2302.06675'\nauthors = ['A. Author']\nscope = 'hidden'\n{extra}"
        "[schedule]\nkind = 'decay'\nwarmup_fraction = 0.1\n"
        "[search.lr]\ndefault = 0.02\nlow = 0.0025\nhigh = 0.16\nscale = 'log'\n"
    )


@pytest.fixture(scope="session", name="write")
def _write():
    return write


@pytest.fixture(scope="session")
def bench(tmp_path_factory):
    """A folder with tasks, baselines and records: a ladder, three entries, failures of every kind."""
    folder = tmp_path_factory.mktemp("bench")
    (folder / "tasks").mkdir()
    text = (ROOT / "tasks" / "nano.toml").read_text()
    (folder / "tasks" / "nano.toml").write_text(text.replace(f'reference = "{NANO.reference}"', 'reference = "base"'))
    (folder / "tasks" / "idle.toml").write_text(text)
    smoke = (ROOT / "tasks" / "smoke.toml").read_text()
    (folder / "tasks" / "small.toml").write_text(
        smoke.replace(f'reference = "{SMOKE.reference}"', 'reference = "base"')
    )
    write_entry(folder / "baselines", "base", "Base")
    write_entry(folder / "baselines", "quick", "Quick", "deviations = ['the warm-up is <ours>']\n")
    write_entry(folder / "baselines", "slow", "Slow")
    write_entry(folder / "baselines", "strange", HOSTILE)
    records = folder / "records"
    for budget in (0.25, 0.5, 1.0, 2.0, 4.0):
        for seed in range(3):
            write(records, entry="base", budget=budget, seed=seed)
    for budget in (0.5, 1.0, 2.0):
        for seed in range(3):
            write(records, entry="quick", budget=budget, seed=seed)
            write(
                records,
                entry="slow",
                budget=budget,
                seed=seed,
                outcome="diverged" if budget == 2 and seed else "finished",
            )
    write(records, entry="strange", seed=0)
    write(records, entry="strange", seed=1, outcome="crashed")
    for entry, budget in (("base", 0.5), ("base", 1.0), ("quick", 0.5)):  # one seed: no noise, so no interval
        write(records, entry=entry, budget=budget, name="small", task=SMOKE)
    write(records, entry="quick", name="small", task=SMOKE, mode="fp8")  # no reference there: no board
    write(records, entry="gone", seed=0, outcome="timeout")  # an entry that this clone does not hold
    return folder


@pytest.fixture(scope="session")
def material(bench):
    return gather([bench / "records"], bench / "tasks", bench / "baselines", bench)


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """A folder of one task with plans, ledgers and records as if it had been carried out."""
    from published import ENTRIES, publish

    few = {name: ENTRIES[name] for name in ("adamw", "muon", "muon@1", "muon@2", "soap", "sgd")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda file: None)  # a test's files need not outlive a power cut
        return publish(tmp_path_factory.mktemp("published"), {"small": ROOT / "tasks" / "smoke.toml"}, few)


@pytest.fixture(scope="session")
def evidence(published):
    return gather([published / "records"], published / "tasks", ROOT / "baselines", published)


@pytest.fixture(scope="session")
def boards(evidence):
    return [board_view(board, evidence) for board in evidence.boards]


@pytest.fixture(scope="session")
def sources():
    return read_sources(ROOT / "leaderboard")


@pytest.fixture(scope="session")
def site(material, sources):
    return pages(material, sources)


@pytest.fixture(scope="session")
def told(evidence, sources):
    """The site of that folder, published at an address."""
    return pages(evidence, sources, "https://board.example/")


@pytest.fixture
def make_record():
    """Return a function from changes to a sealed record, and the task it belongs to."""
    from bench.record import Record
    from bench.spec import validate

    def make(**what):
        table = {**record_facts(**what), "log": digest_of("log"), "digest": digest_of("digest")}
        return validate(table, Record, "a test's record")

    return make


@pytest.fixture
def python():
    return sys.executable
