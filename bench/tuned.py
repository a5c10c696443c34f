"""Tuned values of an entry on a task: one TOML beside its code, written by bench, keyed by track, mode and rung."""

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from bench.entry import WARMUP, Value
from bench.errors import BenchError
from bench.mode import FLOAT
from bench.plan import Plan, read_plan
from bench.record import Digest, write_atomically
from bench.spec import Spec, read_toml
from bench.task import rung_name
from bench.tuning import DECAY

REST = ("lr", "beta1", "beta2", "eps", DECAY)  # what of the yardstick's values trains the unclaimed
ByMode = dict[str, dict[str, dict[str, Value]]]  # values by mode and rung, as "0.5x"


class Cost(Spec):
    """What the tuning cost."""

    trials: int
    charged_tokens: float
    train_seconds: float


class Tuned(Spec):
    plan: Digest
    ledger: Digest  # of its last line
    cost: Cost
    tuned: ByMode
    transfer: ByMode  # with the harness's own values under dotted names
    added: dict[str, Digest] = Field(default_factory=dict)  # last line of the ledger, by plan that added modes or rungs

    def at(self, rung: float, mode: str = FLOAT) -> dict[str, Value]:
        try:
            return self.tuned[mode][rung_name(rung)]
        except KeyError:
            raise BenchError(f"no tuned values at {rung_name(rung)} in {mode}", "tune it: bench tune") from None


def tuned_path(entry: Path, task: str, name: str) -> Path:
    return entry.parent / "tuned" / task / f"{name}.toml"


def read_tuned(entry: Path, task: str, name: str) -> Tuned | None:
    """Return the entry's tuned values on a task, or None where it has none yet."""
    path = tuned_path(entry, task, name)
    return read_toml(path, Tuned) if path.exists() else None


def newest_yardstick(entry: Path, task: str, plans: Path) -> Plan | None:
    """Return the plan that the yardstick's tuned values stand by, or None where it has none on the task."""
    tuned = read_tuned(entry, task, entry.stem)
    if tuned is None:
        return None
    path = plans / task / f"{entry.stem}-{tuned.plan[:16]}.json"
    return read_plan(path)


def rest_of(values: Mapping[str, Value]) -> dict[str, float]:
    """Return what hybrids train the unclaimed with: the yardstick's values for the rest."""
    numbers = {name: float(values[name]) for name in REST}
    return {**numbers, "lr": numbers["lr"] * float(values.get("rest_lr_factor", 1.0))}


def lent_values(plan: Plan, theirs: Mapping[str, Value]) -> dict[str, Value]:
    """Return an entry's declared values with the yardstick's learning rate and warm-up: the transfer track's.

    The harness decays by the yardstick's rate there, so the entry's own is off.
    """
    own = {**plan.fixed, **{name: space.default for name, space in plan.space.items()}}
    lent = {**own, "lr": theirs["lr"], WARMUP: theirs[WARMUP]}
    return {name: 0.0 if name == DECAY else value for name, value in lent.items()}


def by_mode(found: Mapping[str, Mapping[float, dict[str, Value]]]) -> ByMode:
    """Return tuned values by mode and rung as their file has them."""
    return {mode: {rung_name(rung): values for rung, values in sorted(tuned.items())} for mode, tuned in found.items()}


def merged(there: ByMode, found: ByMode) -> ByMode:
    """Return the values of both, rungs rising; what was found takes the place of what was there."""
    both = {mode: {**there.get(mode, {}), **found.get(mode, {})} for mode in {**there, **found}}
    return {
        mode: {rung: rungs[rung] for rung in sorted(rungs, key=lambda name: float(name.removesuffix("x")))}
        for mode, rungs in both.items()
    }


def write_tuned(path: Path, tuned: Tuned) -> None:
    facts = tuned.model_dump(mode="json")
    tables = [_pairs({name: facts[name] for name in ("plan", "ledger")}), ["[cost]", *_pairs(facts["cost"])]]
    if tuned.added:
        tables.append(["[added]", *_pairs(facts["added"])])
    for track in ("tuned", "transfer"):
        tables += [[f"[{track}]"]] * (not facts[track])
        for mode, rungs in facts[track].items():
            tables += [[f'[{track}.{mode}."{rung}"]', *_pairs(values)] for rung, values in rungs.items()]
    write_atomically(path, ("\n\n".join("\n".join(table) for table in tables) + "\n").encode())


def _pairs(table: dict[str, Value]) -> list[str]:
    """Return TOML lines: its numbers, true, false and quoted text are JSON's."""
    return [f"{json.dumps(name) if '.' in name else name} = {json.dumps(value)}" for name, value in table.items()]
