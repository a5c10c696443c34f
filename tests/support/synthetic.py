"""Records that were never run: whole and valid, with losses that follow a law, for pages and boards to be tested on.

Nothing of this is ever published. Entries are the clone's own, so that their pages have papers and values.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from planned import KIND, bowl, plan_of, write_trials, yardstick
from small import ROOT

from bench.children import AfterTraining, Quantized, Summary, Tails
from bench.digest import digest_of
from bench.entry import find_entries
from bench.ledger import Study
from bench.mode import read_mode
from bench.pages.views import Material
from bench.record import Inputs, Log, Milestone, Point, Record
from bench.score.boards import make_boards
from bench.spec import validate
from bench.task import Task, read_task

NANO = read_task(ROOT / "tasks" / "nano.toml")
MACHINE = {"processor": "Toy <CPU>", "instructions": "avx2", "threads": 1, "compiler": None, "compiled": False,
           "switches": {}, "lock": digest_of("lock")}  # fmt: skip
MODES = {"bf16": 0.0, "qat-int8": 0.004, "qat-w4a4": 0.05}  # what training in a mode costs, in nats
AFTER = {"ptq-w8a8": 0.003, "ptq-w4": 0.06, "ptq-w3": 0.31}  # what rounding afterwards costs
SIDE = {"bits": 4, "levels": (12, 16), "clipped": 0.0, "masked": 0.0}
LAYERS = {"count": 28, "digest": digest_of("layers")}
ROUNDED = {"expected": LAYERS, "actual": LAYERS, "parts": {"q_proj": 4, "down_proj": 24}, "blocks": {"128": 1},
           "forwards": 1.0, "float_score_loss": 2.0, "weights": SIDE, "activations": SIDE}  # fmt: skip


def share(*facts: object) -> float:
    """Return a number in [0, 1) that the facts decide."""
    return int(hashlib.sha256(repr(facts).encode()).hexdigest()[:12], 16) / 16**12


def noise(*facts: object) -> float:
    """Return a normal deviate that the facts decide."""
    return math.sqrt(-2 * math.log(1 - share("r", *facts))) * math.cos(2 * math.pi * share("t", *facts))


def gain(entry: str) -> float:
    """Return the speedup that the law gives an entry: a placebo has its twin's."""
    name = entry.partition("@")[0]
    return 1.0 if name in ("adamw", "adamw-ref") else 0.7 + 0.9 * share("gain", name)


def law(entry: str, budget: float, seed: int, mode: str = "bf16") -> float:
    """Return a loss in nats: a power of the entry's effective tokens, a mode's cost, seed noise."""
    cost = MODES[mode] * (0.6 + 0.8 * share("cost", entry, mode)) * budget**0.2
    return 0.6 * (budget * gain(entry)) ** -0.35 + 1.7 + cost + 0.004 * noise(entry, budget, seed, mode)


def record(
    entry: str, entry_digest: str, budget: float, seed: int, *, name: str = "nano", task: Task = NANO,
    mode: str = "bf16", track: str = "tuned", plan: str | None = None, values: dict | None = None,
    outcome: str = "finished", who: str = "A. Author <a@example.org>", full: bool = False,
) -> Record:  # fmt: skip
    """Return a valid record that no run made."""
    inputs = {"task": name, "task_digest": task.digest, "entry": entry, "entry_digest": entry_digest,
              "values": values or {"lr": 0.02, "warmup_fraction": 0.1}, "mode": mode,
              "mode_digest": read_mode(mode).digest, "budget": budget, "track": track, "seed": seed,
              "harness": digest_of("harness"), "machine_kind": KIND}  # fmt: skip
    done = outcome == "finished"
    steps = task.steps(budget) if done else 7
    tokens = task.tokens(budget) if done else 7 * task.training.batch_tokens
    loss = law(entry, budget, seed, mode) if done else None
    hidden, everything = task.matrix_parameters, task.parameters
    seconds = 0.1 * (0.95 + 0.6 * share("step", entry))
    table = {
        "schema": 1, "run_id": Inputs(**inputs).run_id, "inputs": inputs, "plan": plan, "machine": MACHINE,
        "who": who, "made": f"2026-{1 + seed % 12:02d}-{1 + int(28 * share(entry, budget)):02d}T00:00:00+00:00",
        "outcome": outcome, "cause": None if done else "loss nan at step 7", "steps": steps, "tokens": tokens,
        "charged_tokens": float(tokens), "initial_loss": 5.6, "select_loss": loss, "score_loss": loss,
        "chains": {"data": digest_of(["data", seed, budget]), "loss": digest_of(["loss", entry, seed, budget, mode])},
        "weights": {"initial": digest_of(["weights", seed]), "final": digest_of([entry, seed, budget, mode]),
                    "evaluated": digest_of([entry, seed, budget, mode])},
        "facts": {
            "weight_dtypes": ["float32"], "state_dtypes": ["float32"], "state_bytes_per_parameter": 4.0 + 4 * full,
            "partition": {"hidden": {"entry": hidden, "harness": 0},
                          "embedding": {"entry": (everything - hidden) * full,
                                        "harness": (everything - hidden) * (not full)}},
            "schedule": "decay", "last_multiplier": 1 / (0.9 * steps), "clip": 1.0, "clip_rate": 0.125,
            "update_rms": {"hidden": 0.0021}, "passes": 1.0, "epochs": budget / 1.8,
            "validation": digest_of("validation"), "quantization": None if mode == "bf16" else ROUNDED,
        },
        "cost": {"train_seconds": steps * seconds, "step_seconds": seconds,
                 "peak_memory_bytes": int((260 + 120 * share("memory", entry)) * 2**20)},
        "log": digest_of("log"), "digest": digest_of([entry, seed, budget, mode, track]),
    }  # fmt: skip
    return validate(table, Record, "a synthetic record")


def log_of(run: Record, points: int = 60) -> Log:
    """Return a log of so many steps: pages draw no more."""
    end = run.score_loss or 9.0
    return Log(
        stride=1, loss=tuple(end + 3.5 * 0.9**i + 0.02 * noise(run.run_id, i) for i in range(points)),
        gradient_norm=(0.8,) * points,
        curve=tuple(Point(tokens=run.tokens * i // 8, loss=end + 3.5 * 0.3**i, train_seconds=7.5 * i)
                    for i in range(9)),
        milestones=(Milestone(step=run.steps, data=run.chains.data, loss=run.chains.loss, update_rms={}),),
        score_blocks=tuple(end + 0.2 * noise("block", i) for i in range(8)),
    )  # fmt: skip


def rounded(run: Record) -> Quantized:
    """Return what rounding did to a record's weights."""
    tails = Tails(max_over_mean=4.0, max_over_median=5.0, kurtosis=0.5, feature_kurtosis=1.2)
    diagnosis = Summary(digest=digest_of("layers"), error=0.1, weights=tails, activations=tails)
    modes = {
        mode: AfterTraining(
            mode_digest=read_mode(mode).digest, loss=run.score_loss + cost, perplexity=math.exp(run.score_loss + cost),
            degradation=cost, quantization=ROUNDED, calibration=None, gptq=None, hawq=None, diagnosis=diagnosis,
            machine=run.inputs.machine_kind, seconds=3.0, made="2026-06-01T00:00:00+00:00",
        )
        for mode, base in AFTER.items()
        for cost in [base * (0.6 + 0.8 * share("ptq", run.entry, mode)) + 0.001 * noise(run.run_id, mode)]
    }  # fmt: skip
    return Quantized(schema=1, run_id=run.run_id, weights=run.weights.evaluated, digest=digest_of("child"), modes=modes)


def material(
    folder: Path, names: Sequence[str] = ("adamw", "muon", "lion", "sgd"), modes: Sequence[str] = tuple(MODES),
    baselines: Path = ROOT / "baselines",
) -> Material:  # fmt: skip
    """Return a board's worth of everything: ladder, entries with ledgers, placebos, modes, children, failures."""
    entries = {entry.name: entry for entry in find_entries(baselines)}
    plans = [yardstick(), *(plan_of(name) for name in names), *(plan_of(names[0], number) for number in (1, 2, 3))]
    studies = [Study(plan, tuple(write_trials(folder / f"{plan.entry}.jsonl", plan, bowl(3e-3 * gain(plan.entry)))))
               for plan in plans]  # fmt: skip
    runs = list(_runs(studies, entries, modes))
    return assembled(runs, {"nano": NANO}, entries, {"nano": studies})


def _runs(studies: list[Study], entries: dict, modes: Sequence[str]) -> Iterator[Record]:
    for study in studies:
        plan = study.plan
        digest, is_yardstick = plan.entry_digest, plan.yardstick is None
        for mode in modes:
            rungs = (0.25, 0.5, 1.0, 1.5, 2.0, 4.0, 8.0) if is_yardstick else (0.5, 1.0, 2.0)
            for budget in rungs if mode == "bf16" or is_yardstick else (1.0,):
                for seed in range(5 if is_yardstick else 3):
                    lost = plan.entry == "sgd" and budget == 2.0 and seed == 1
                    yield record(plan.entry, digest, budget, seed, mode=mode, plan=None if mode != "bf16" else
                                 plan.digest, outcome="diverged" if lost else "finished")  # fmt: skip


def assembled(runs: Sequence[Record], tasks: dict, entries: dict, studies: dict) -> Material:
    """Return the material of records that lie nowhere."""
    found = tuple(sorted(runs, key=lambda run: run.run_id))
    logs = {run.run_id: log_of(run) for run in found}
    boards, searches, refusals = make_boards(found, logs, tasks, {name: studies.get(name, []) for name in tasks},
                                             {name: [] for name in tasks})  # fmt: skip
    quantized = {run.run_id: rounded(run) for run in found if run.inputs.mode == "bf16" and run.score_loss is not None}
    return Material(tasks=tasks, entries=entries, records=found, boards=boards, logs=logs, refusals=refusals,
                    studies=studies, searches=searches, quantized=quantized)  # fmt: skip


def many(count: int, entries: int = 50, budgets: Sequence[float] = (0.5, 1.0, 2.0), seeds: int = 3) -> Material:
    """Return at least so many records, over as many tasks of one shape as that takes."""
    runs: list[Record] = []
    tasks: dict[str, Task] = {}
    while len(runs) < count:
        name = f"task-{len(tasks) + 1}"
        tasks[name] = NANO.model_copy(update={"version": 100 + len(tasks)})
        names = [NANO.reference, *(f"entry-{number}" for number in range(entries))]
        runs += [record(entry, digest_of(entry), budget, seed, name=name, task=tasks[name])
                 for entry in names for budget in budgets for seed in range(seeds)]  # fmt: skip
    return assembled(runs, tasks, {}, {})
