"""A whole leaderboard that nobody ran: plans, finished ledgers and sealed records of real entries by a made-up law."""

import math
from collections.abc import Mapping
from pathlib import Path
from random import Random

from planned import bowl, write_trials
from small import ROOT

from bench.children import AfterTraining, Summary, Tails, quantized_path, write_quantized
from bench.digest import digest_of
from bench.entry import Entry
from bench.ledger import ledger_path
from bench.mode import read_mode
from bench.plan import Plan, make_plan, write_plan
from bench.record import Inputs, Log, Machine, Milestone, Point, record_path, write_record
from bench.task import Task, read_task
from bench.trials import state_of

MACHINE = {"processor": "Toy CPU", "instructions": "avx2", "threads": 1, "compiler": None, "compiled": False,
           "switches": {}, "lock": digest_of("lock")}  # fmt: skip
KIND = Machine(**MACHINE).kind
# Speedup at 1x, seconds a step over the reference's, bytes of state per parameter, nats lost when rounded to 4 bits.
ENTRIES = {
    "adamw": (0.98, 1.0, 8.0, 0.08), "adamw@1": (0.985, 1.0, 8.0, 0.08), "adamw@2": (0.975, 1.0, 8.0, 0.08),
    "muon": (1.42, 1.07, 4.0, 0.05), "muon@1": (1.43, 1.07, 4.0, 0.05), "muon@2": (1.41, 1.07, 4.0, 0.05),
    "soap": (1.47, 1.6, 16.0, 0.09), "lion": (0.9, 0.95, 4.0, 0.12), "moonlight": (1.4, 1.08, 4.0, 0.05),
    "sgd": (0.4, 0.9, 4.0, 0.1), "adamw-hybrid": (1.01, 1.0, 8.0, 0.08),
}  # fmt: skip
PTQ = {"ptq-w8a8": 0.02, "ptq-w4": 1.0, "ptq-w3": 4.0}  # shares of the nats lost
NOISE = 0.003  # nats, between seeds
SHRINKING = 0.9  # an entry's ln speedup at each doubling of the budget


def law(task: Task, speedup: float, budget: float) -> float:
    """Return the loss that the reference has at as many tokens."""
    shown = max(0.05, budget * speedup ** (SHRINKING ** math.log2(max(budget, 0.25))))
    return 0.6 * shown**-0.35 + 1.7 - math.log10(task.matrix_parameters / 1e6) / 4


def publish(folder: Path, tasks: Mapping[str, Path], entries: Mapping[str, tuple[float, float, float, float]] = ENTRIES,
            seeds: int = 3) -> Path:  # fmt: skip
    """Write tasks, plans, ledgers and records below a folder and return it; some runs of sgd diverge."""
    (folder / "tasks").mkdir(parents=True, exist_ok=True)
    for name, path in tasks.items():
        text = path.read_text()
        task = read_task(path)
        (folder / "tasks" / f"{name}.toml").write_text(
            text.replace(f'reference = "{task.reference}"', 'reference = "adamw-ref"')
        )
        _publish(folder, name, read_task(folder / "tasks" / f"{name}.toml"), entries, seeds)
    return folder


def _publish(folder: Path, name: str, task: Task, entries: Mapping[str, tuple[float, ...]], seeds: int) -> None:
    reference = _entry("adamw-ref")
    yardstick = make_plan(name, task, reference, KIND, None)
    _carry_out(folder, name, task, reference, yardstick, (1.0, 1.0, 8.0, 0.08))
    for label, facts in entries.items():
        twin, _, number = label.partition("@")
        entry = _entry(twin)
        plan = make_plan(name, task, entry, KIND, yardstick, int(number or 0), seeds=seeds)
        _carry_out(folder, name, task, entry, plan, facts)


def _entry(name: str) -> Entry:
    return Entry(next((ROOT / "baselines").glob(f"*/{name}.toml")))


def _carry_out(folder: Path, name: str, task: Task, entry: Entry, plan: Plan, facts: tuple[float, ...]) -> None:
    """Tune on a formula whose best rate lies near the declared one, then write a record for every planned run."""
    steps = {rung: task.steps(rung) for rung in task.budget.rungs}
    losses = bowl(lr=plan.space["lr"].default * 1.3)
    write_plan(folder / "plans", plan)
    trials = write_trials(
        ledger_path(folder / "ledgers", plan), plan,
        lambda wanted: None if plan.twin == "sgd" and float(wanted.values.get("lr", 0)) > 1 else losses(wanted) - 1,
        steps=steps,
    )  # fmt: skip
    tuned = state_of(plan, steps, trials).tuned
    assert tuned is not None
    for track in plan.tracks:
        for budget, seeds in plan.ladder.items():
            for seed in seeds:
                worse = 0.93 if track == "transfer" else 1.0
                _write(folder, name, task, entry, plan, track, budget, seed, tuned[budget], facts, worse)


def _write(folder, name, task, entry, plan, track, budget, seed, values, facts, worse):
    speedup, step, state, rounding = facts
    drawn = Random(f"{plan.entry}/{track}/{budget}/{seed}")
    loss = law(task, speedup * worse, budget) + drawn.gauss(0, NOISE)
    fails = plan.twin == "sgd" and budget >= 2 and seed == 0
    inputs = {"task": name, "task_digest": task.digest, "entry": plan.entry, "entry_digest": entry.digest,
              "values": values, "mode": "bf16", "mode_digest": read_mode("bf16").digest, "budget": budget,
              "track": track, "seed": seed, "harness": digest_of("harness"), "machine_kind": KIND}  # fmt: skip
    steps = 37 if fails else task.steps(budget)
    tokens = steps * task.training.batch_tokens
    table = {
        "schema": 1, "run_id": Inputs(**inputs).run_id, "inputs": inputs, "plan": plan.digest, "machine": MACHINE,
        "who": "tester <t@example>", "made": "2026-01-01T00:00:00+00:00",
        "outcome": "diverged" if fails else "finished", "cause": "loss nan at step 37" if fails else None,
        "steps": steps, "tokens": tokens, "charged_tokens": float(tokens), "initial_loss": 5.6,
        "select_loss": None if fails else loss + 0.01, "score_loss": None if fails else loss,
        "chains": {"data": digest_of(["data", name, seed, budget]), "loss": digest_of([plan.entry, seed, budget])},
        "weights": {"initial": digest_of(["weights", name, seed]), "final": digest_of(["final", plan.entry, seed]),
                    "evaluated": digest_of(["evaluated", plan.entry, track, seed, budget])},
        "facts": _facts(task, entry, budget, steps, state),
        "cost": {"train_seconds": 0.12 * step * steps, "step_seconds": 0.12 * step, "peak_memory_bytes": 300 << 20},
    }  # fmt: skip
    path = record_path(folder / "records", name, plan.digest, table["run_id"])
    write_record(path, table, _log(table, loss))
    if not fails and track == "tuned" and (budget in (1, task.budget.compared[0]) or plan.yardstick is None):
        _round(path, table, loss, rounding * budget**0.2, drawn)


def _facts(task: Task, entry: Entry, budget: float, steps: int, state: float) -> dict:
    hidden, everything = task.matrix_parameters, task.parameters
    rest = {"entry": everything - hidden, "harness": 0}
    if entry.facts.scope != "full":
        rest = {"entry": 0, "harness": everything - hidden}
    return {
        "weight_dtypes": ["float32"], "state_dtypes": ["float32"], "state_bytes_per_parameter": state,
        "partition": {"hidden": {"entry": hidden, "harness": 0}, "embedding": rest},
        "schedule": "decay", "last_multiplier": 1 / (0.9 * steps), "clip": 1.0, "clip_rate": 0.125,
        "update_rms": {"hidden": 0.0021, "embedding": 0.0008}, "passes": 1.0, "epochs": budget / 1.8,
        "validation": digest_of("validation"),
    }  # fmt: skip


def _log(table: dict, loss: float) -> Log:
    """Return a log with every sixteenth step: a falling loss, norms that settle below the clip."""
    stride, steps, tokens = 16, table["steps"], table["tokens"]
    count = -(-steps // stride)
    drawn = Random(table["run_id"])
    shares = [(i + 1) / count for i in range(count)]
    milestones = [
        Milestone(step=max(1, steps * k // 8), data=table["chains"]["data"], loss=table["chains"]["loss"],
                  update_rms={"hidden": 0.0021 * (1.1 - k / 8), "embedding": 0.0008 * (1.1 - k / 8)})
        for k in range(1, 9)
    ]  # fmt: skip
    return Log(
        stride=stride, loss=tuple(loss + 3.5 * math.exp(-9 * s) + drawn.gauss(0, 0.05) for s in shares),
        gradient_norm=tuple(0.6 + 1.5 * math.exp(-6 * s) + abs(drawn.gauss(0, 0.2)) for s in shares),
        curve=tuple(Point(tokens=tokens * i // 8, loss=loss + 3.5 * 0.3**i, train_seconds=7.5 * i) for i in range(9)),
        milestones=tuple(milestones), score_blocks=tuple(loss + drawn.gauss(0, 0.02) for _ in range(8)),
    )  # fmt: skip


def _round(path: Path, table: dict, loss: float, nats: float, drawn: Random) -> None:
    layers = {"count": 28, "digest": digest_of("names")}
    side = {"bits": 4, "levels": (15, 16), "clipped": 0.001, "masked": 0.0}
    proof = {"expected": layers, "actual": layers, "parts": {"q_proj": 28}, "blocks": {"128": 1}, "forwards": 1.0,
             "float_score_loss": loss, "weights": side, "activations": None}  # fmt: skip
    tails = Tails(max_over_mean=3 + 20 * nats, max_over_median=4 + 25 * nats, kurtosis=10 * nats, feature_kurtosis=None)
    for mode, share in PTQ.items():
        lost = nats * share + drawn.gauss(0, NOISE / 3)
        measured = AfterTraining(
            mode_digest=read_mode(mode).digest, loss=loss + lost, perplexity=math.exp(loss + lost), degradation=lost,
            quantization=proof, calibration=None, gptq=None, hawq=None,
            diagnosis=Summary(digest=digest_of(mode), error=lost / 4, weights=tails, activations=tails),
            machine=KIND, seconds=1.5, made="2026-01-01T00:00:00+00:00",
        )  # fmt: skip
        write_quantized(quantized_path(path), table["run_id"], table["weights"]["evaluated"], mode, measured)
