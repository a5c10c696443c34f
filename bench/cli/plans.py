"""Verbs that carry out the protocol: plan, tune, ladder, evaluate."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.app import EntryPath, TaskPath, app, err, example
from bench.entry import Entry
from bench.errors import BenchError
from bench.places import PUBLISHED, RUNS, data_folder
from bench.plan import Plan, find_plans, make_plan, plan_path, write_plan
from bench.task import Task, read_task

if TYPE_CHECKING:
    from bench.conduct import Paths

Placebo = Annotated[int, typer.Option(min=0, help="which further tuning of the entry, to measure tuning noise")]
Board = Annotated[Path, typer.Option("--leaderboard", help="folder of plans, ledgers and records")]
Baselines = Annotated[Path, typer.Option(help="folder of algorithms, the yardstick among them")]
Workers = Annotated[int | None, typer.Option(min=1, help="runs side by side; as many as fit by default")]


@app.command(**example("plan tasks/nano.toml baselines/muon/muon.toml"))
def plan(
    task: TaskPath,
    entry: EntryPath,
    placebo: Placebo = 0,
    after: Annotated[bool, typer.Option("--after", help="further seeds, after a look at those there are")] = False,
    leaderboard: Board = PUBLISHED,
    baselines: Baselines = Path("baselines"),
) -> None:
    """Write down every run that a claim about an entry will rest on, before the first of them."""
    definition, found = read_task(task), Entry(entry)
    written = _planned(task, definition, found, placebo, leaderboard, baselines, after)
    print(plan_path(leaderboard / "plans", written))
    _print_plan(written, definition)


@app.command(**example("tune tasks/nano.toml baselines/muon/muon.toml"))
def tune(
    task: TaskPath,
    entry: EntryPath,
    placebo: Placebo = 0,
    workers: Workers = None,
    leaderboard: Board = PUBLISHED,
    baselines: Baselines = Path("baselines"),
) -> None:
    """Run the plan's trials into the ledger, and write the tuned values."""
    _conduct("tune", task, entry, placebo, workers, leaderboard, baselines)


@app.command(**example("ladder tasks/nano.toml baselines/muon/muon.toml"))
def ladder(
    task: TaskPath,
    entry: EntryPath,
    placebo: Placebo = 0,
    workers: Workers = None,
    leaderboard: Board = PUBLISHED,
    baselines: Baselines = Path("baselines"),
) -> None:
    """Run the plan's rungs and seeds, on every track, at the tuned values."""
    _conduct("ladder", task, entry, placebo, workers, leaderboard, baselines)


@app.command(**example("evaluate tasks/nano.toml baselines/muon/muon.toml"))
def evaluate(
    task: TaskPath,
    entry: EntryPath,
    placebo: Placebo = 0,
    workers: Workers = None,
    leaderboard: Board = PUBLISHED,
    baselines: Baselines = Path("baselines"),
) -> None:
    """Plan, tune and ladder in one. Stopped at any point, the same command goes on."""
    _conduct("evaluate", task, entry, placebo, workers, leaderboard, baselines)


def _conduct(
    what: str, task: Path, entry: Path, placebo: int, workers: int | None, leaderboard: Path, baselines: Path
) -> None:
    from bench.conduct import Conductor
    from bench.display import watch_plan
    from bench.engine.local import Local

    definition, found = read_task(task), Entry(entry)
    mine = _planned(task, definition, found, placebo, leaderboard, baselines)
    engine = Local(definition.training.threads, workers)
    try:
        with watch_plan(f"{what} {task.stem} {mine.entry}", err) as report:
            paths = _paths(task, entry, definition, leaderboard, baselines)
            conductor: Conductor = Conductor(mine, definition, paths, engine, report)
            getattr(conductor, what)()
    except KeyboardInterrupt:
        err.print("stopped: the same command goes on from here")
        raise
    finally:
        engine.close()
    stand = conductor.stand
    print(f"{task.stem} {mine.entry}: {stand.done} runs made, {len(stand.failures)} of them failed")


def _planned(
    task: Path, definition: Task, entry: Entry, placebo: int, leaderboard: Path, baselines: Path, after: bool = False
) -> Plan:
    """Return the newest plan of the entry, or write its first, or the next look's."""
    from bench.assemble import Request
    from bench.conduct import newest_yardstick
    from bench.setting import Watch, settle

    name = f"{entry.name}@{placebo}" if placebo else entry.name
    there = find_plans(leaderboard / "plans", task.stem, name)
    if there and not after:
        return there[0]
    if after and not there:
        raise BenchError(f"{name} has no plan on {task.stem} yet", "leave --after out: the first plan comes first")
    request = Request(task.stem, definition, entry, entry.values({}), "bf16", 1.0, "tuned", 0)
    yardstick = None
    if entry.name != definition.reference:
        yardstick = newest_yardstick(_reference(definition, baselines), task.stem, leaderboard / "plans")
    kind = settle(request, Watch()).machine.kind
    made = make_plan(task.stem, definition, entry, kind, yardstick, placebo, there[0] if after else None)
    write_plan(leaderboard / "plans", made)
    return made


def _reference(task: Task, baselines: Path) -> Path:
    paths = sorted(baselines.glob(f"*/{task.reference}.toml"))
    if not paths:
        raise BenchError(f"no entry {task.reference} in {baselines}", "name the yardstick's folder with --baselines")
    return paths[0]


def _paths(task: Path, entry: Path, definition: Task, leaderboard: Path, baselines: Path) -> "Paths":
    from bench.conduct import Paths
    from bench.setting import Places

    return Paths(
        task=task,
        entry=entry,
        yardstick=_reference(definition, baselines),
        plans=leaderboard / "plans",
        ledgers=leaderboard / "ledgers",
        places=Places(data_folder(), RUNS / "work", leaderboard / "records"),
    )


def _print_plan(plan: Plan, task: Task) -> None:
    ladder = sum(len(seeds) * task.tokens(rung) for rung, seeds in plan.ladder.items()) * len(plan.tracks)
    runs = sum(len(seeds) for seeds in plan.rungs.values()) * len(plan.tracks)
    search = (plan.tuning.sweep + plan.tuning.sobol) * len(plan.tuning.seeds)
    print(f"{search} runs of tuning at {plan.tuning.rung:g}x, {search * task.tokens(plan.tuning.rung):,} tokens, and "
          f"more at other rungs; {runs} runs of the ladder, {ladder:,} tokens")  # fmt: skip
