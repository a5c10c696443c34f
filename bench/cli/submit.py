"""Verbs of a submission: new, check, bundle, verify, rerun."""

import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.app import TaskPath, app, err, example
from bench.cli.planning import GO_ON, machine_for, reference_of, remedy
from bench.errors import BenchError, did_you_mean
from bench.mode import FLOAT
from bench.places import PUBLISHED, RUNS, data_folder
from bench.task import read_task

if TYPE_CHECKING:
    from bench.check import Line

Baselines = Annotated[Path, typer.Option(help="folder of algorithms, the yardstick among them")]
Named = Annotated[str, typer.Argument(help="an entry: its name in the folder of algorithms, or its TOML")]
Board = Annotated[Path, typer.Option("--leaderboard", help="folder of plans, ledgers and records")]
For = Annotated[Path, typer.Option("--task", help="what it is to be evaluated on")]
BUDGET = 120  # seconds that a check may take on two cores


@app.command(**example("new my-optimizer"))
def new(
    name: Annotated[str, typer.Argument(help="of the entry, as my-optimizer", show_default=False)],
    baselines: Baselines = Path("baselines"),
) -> None:
    """Write an entry that already passes; edit its optimizer.py and its search space."""
    from bench.starter import begin

    path = begin(name, baselines)
    print(f"{path.parent / 'optimizer.py'}: the rule\n{path}: what it is, its fixed values and its search space")
    print(f"edit both, then: bench check {name}")


@app.command(**example("check my-optimizer --device h100 --devices 8"))
def check(
    entry: Named,
    task: For = Path("tasks/nano.toml"),
    on: Annotated[Path, typer.Option("--on", help="a short task to try it on")] = Path("tasks/smoke.toml"),
    device: Annotated[str | None, typer.Option(help="also say what the plan takes there, as h100")] = None,
    devices: Annotated[int, typer.Option(min=1, help="how many of them")] = 1,
    price: Annotated[float | None, typer.Option(min=0, help="of a device for an hour")] = None,
    leaderboard: Board = PUBLISHED,
    baselines: Baselines = Path("baselines"),
) -> None:
    """Try an entry in two minutes: its source, the battery, a short run, what its plan costs. Exit 1 if not ready."""
    start = time.monotonic()
    path = entry_path(entry, baselines)
    read_task(task)  # a typo is said at once
    from bench.check import check as checked

    failed = judged = 0
    reasons: set[str] = set()
    for line in checked(path, on, data_folder()):
        judged += line.ok is not None
        failed += line.ok is False
        _say(line, again=line.ok is False and line.detail in reasons)
        reasons |= {line.detail} if line.ok is False and line.detail else set()
    told = _outlook(path, task, leaderboard, baselines, (device, devices, price))
    for said in told:
        print(f"      {said}")
    settings = next((f"{said.partition(GO_ON)[2]} " for said in told if GO_ON in said), "")
    seconds = time.monotonic() - start
    if seconds > BUDGET:
        err.print(f"this took {seconds:.0f} s, more than the {BUDGET} s of two quiet cores", highlight=False)
    print(f"\n{verdict(path, task, judged, failed, settings)} ({seconds:.0f} s)")
    raise typer.Exit(1 if failed else 0)


@app.command(**example("bundle tasks/nano.toml my-optimizer"))
def bundle(
    task: TaskPath,
    entry: Named,
    out: Annotated[Path | None, typer.Option(help="a .tar.gz or a new folder; in runs/bundles by default")] = None,
    leaderboard: Board = PUBLISHED,
    baselines: Baselines = Path("baselines"),
) -> None:
    """Write exactly the files of a pull request, and verify them."""
    from bench.entry import Entry
    from bench.plan import all_plans
    from bench.submission.pack import files_of, write_bundle

    found, wanted = Entry(entry_path(entry, baselines)), read_task(task).digest
    every = [plan for plan in all_plans(leaderboard / "plans", task.stem) if plan.task_digest == wanted]
    plans = [plan for plan in every if (plan.entry, plan.entry_digest) == (found.name, found.digest)]
    if not plans:
        raise BenchError(
            f"{found.name}, as its folder is now, has no plan on this version of {task.stem}",
            f"bench evaluate {task} {found.path}",
        )
    files = files_of(found, plans, leaderboard)
    target = out or RUNS / "bundles" / f"{found.name}-{plans[-1].digest[:16]}.tar.gz"
    write_bundle(target, files)
    for name in files:
        print(name)
    _judge(target, leaderboard.parent)


@app.command(**example("verify runs/bundles/my-optimizer-0123456789abcdef.tar.gz"))
def verify(
    bundle: Annotated[Path, typer.Argument(help="a folder or an archive, as bench bundle writes it")],
    base: Annotated[Path, typer.Option(help="the clone that it is to be merged into")] = Path("."),
) -> None:
    """Say whether a submission stands, without running any of it. Exit 1 where it does not."""
    _judge(bundle, base)


@app.command(**example("rerun leaderboard/records/nano/<plan>/<run_id>.json --seeds 3"))
def rerun(
    record: Annotated[Path, typer.Argument(help="of the submission that is to be run again", show_default=False)],
    seeds: Annotated[int, typer.Option(min=1, max=10, help="how many, drawn from the merge")] = 1,
    merge: Annotated[str | None, typer.Option(help="the commit that fixed the submission; by default git's")] = None,
    tasks: Annotated[Path, typer.Option(help="folder of tasks")] = Path("tasks"),
    leaderboard: Board = PUBLISHED,
    baselines: Baselines = Path("baselines"),
) -> None:
    """Make further records of a published plan, at seeds that nobody could choose: evidence by another party."""
    from bench.cli.plans import carry_out
    from bench.engine.local import Local
    from bench.entry import Entry
    from bench.evaluate.finished import forget_all
    from bench.plan import PLACEBO, all_plans, write_plan
    from bench.record import find_records, is_record_name, read_record
    from bench.rerun import rerun_plan
    from bench.setting import who

    found = read_record(record)
    path, name = tasks / f"{found.task}.toml", found.entry.partition(PLACEBO)[0]
    plans = {plan.digest: plan for plan in all_plans(leaderboard / "plans", found.task)}
    if found.plan not in plans:
        raise BenchError(f"{record}: its plan is not in {leaderboard}", "only what a plan asked for is run again")
    if found.inputs.mode != FLOAT:
        raise BenchError(f"{record}: was trained in {found.inputs.mode}", f"runs in {FLOAT} alone are run again")
    if who() in {read_record(one).who for one in find_records([record.parent])}:
        raise BenchError(f"{who()} made the records of this plan", "a rerun is another party's, named by BENCH_WHO")
    of, entry = plans[found.plan], Entry(entry_path(name, baselines))
    definition = read_task(path)
    kind = machine_for(path, definition, entry).kind
    inputs = found.inputs
    made = rerun_plan(of, merge or _merged(record), kind, inputs.budget, inputs.track, seeds)
    print(write_plan(leaderboard / "plans", made))
    carry_out("ladder", [made], path, entry, leaderboard, baselines, Local(definition.training.threads))
    folder = leaderboard / "records" / made.task / made.digest[:16]
    made_again = [one for one in sorted(folder.glob("*.json")) if is_record_name(one.name)]
    same = [_scored_apart(one, path) for one in made_again]
    for one in made_again:
        forget_all(one, definition, RUNS / "weights")  # no mode is measured of them
    if not all(same):
        raise typer.Exit(1)


def _scored_apart(path: Path, task: Path) -> bool:
    """Score a record's weights in a process that never loads the entry, and say whether the loss is the record's."""
    from bench.evaluate.apart import losses_apart
    from bench.evaluate.weights import kept
    from bench.record import read_record

    record = read_record(path)
    if record.outcome != "finished" or not kept(RUNS / "weights", record.run_id):
        print(f"{path}: {record.outcome}, no weights to score apart")
        return True
    apart = losses_apart(task, RUNS / "weights" / record.run_id, data_folder(), record.machine.compiled)
    same = (apart.evaluated, apart.score_loss) == (record.weights.evaluated, record.score_loss)
    said = "the same" if same else str(apart.score_loss)
    print(f"{path}: {record.score_loss}; by a process that gets only the weights: {said}")
    return same


def _merged(record: Path) -> str:
    """Return the commit that published a record."""
    words = ["git", "log", "-1", "--first-parent", "-m", "--diff-filter=A", "--format=%H", "--", record.name]
    said = subprocess.run(words, cwd=record.parent, capture_output=True, text=True, check=False).stdout.strip()
    if not said:
        raise BenchError(f"{record}: git does not say which commit published it", "name the commit with --merge")
    return said


def _judge(bundle: Path, base: Path) -> None:
    from bench.submission.judge import verify as verified

    start = time.monotonic()
    told = verified(bundle, base)
    for finding in told.findings:
        print(finding)
    for remark in told.remarks:
        print(f"remark: {remark}")
    found = f"{told.plans} plan{'s' * (told.plans != 1)}, {told.records} records, {time.monotonic() - start:.1f} s"
    if told.findings:
        many = "1 finding" if len(told.findings) == 1 else f"{len(told.findings)} findings"
        print(f"{bundle}: does not stand: {many} ({found})")
        raise typer.Exit(1)
    print(f"{bundle}: stands ({found})")


def verdict(path: Path, task: Path, judged: int, failed: int, settings: str = "") -> str:
    """Return what the checks come to, in plain words; settings: what to set before the next command."""
    if failed:
        number = "1 check fails" if failed == 1 else f"{failed} checks fail"
        return f"{path.stem} is not ready: {number} of {judged}. Mend what is marked FAIL, and check again."
    return f"{path.stem} is ready: {judged} checks hold. Next: {settings}bench evaluate {task} {path}"


def entry_path(named: str, baselines: Path) -> Path:
    """Return the TOML of an entry given by its path, its folder or its name."""
    path = Path(named)
    if path.suffix == ".toml":
        return path
    found = sorted(path.glob("*.toml")) if path.is_dir() else sorted(baselines.glob(f"*/{path.name}.toml"))
    if len(found) == 1:
        return found[0]
    if found:
        raise BenchError(f"{path}: holds {len(found)} entries", f"name one: {', '.join(one.stem for one in found)}")
    if not baselines.is_dir():
        raise BenchError(f"{baselines}: no such folder", "call this from the root of a clone, or say --baselines")
    near = did_you_mean(path.name, (one.stem for one in baselines.glob("*/*.toml")))
    raise BenchError(f"no entry {named} in {baselines}{near}", "bench new begins one")


def _say(line: "Line", again: bool) -> None:
    """Print a line; a reason that was told before, as by each check that met it, is told once."""
    mark = {True: "ok  ", False: "FAIL", None: "    "}[line.ok]
    detail = "as above" if again else line.detail
    print(f"{mark}  {line.title}" + (f": {detail}" if detail else ""))
    if line.ok is False and line.hint and not again:
        print(f"        {line.hint}")


def _outlook(
    path: Path, task: Path, leaderboard: Path, baselines: Path, purchase: tuple[str | None, int, float | None]
) -> list[str]:
    """Return what the plan costs and can tell; a plan that cannot be made yet says why."""
    from bench.entry import Entry
    from bench.index import load_index
    from bench.outlook import hours_on, outlook
    from bench.plan import look_at, make_plan
    from bench.tuned import newest_yardstick

    definition, found = read_task(task), Entry(path)
    try:
        yardstick = None
        if found.name != definition.reference:
            yardstick = newest_yardstick(reference_of(definition, baselines), task.stem, leaderboard / "plans")
        machine = machine_for(task, definition, found)
        plan = make_plan(task.stem, definition, found, machine.kind, yardstick)
    except BenchError as error:
        return [f"{task.stem}: no plan yet: {error.what}"]
    records = [folder for folder in [leaderboard / "records"] if folder.exists()]
    look = look_at(definition.reference, task.stem, definition, leaderboard / "plans")
    lines = outlook(plan, definition, load_index(records, RUNS / "index"), reference_look=look)
    if told := remedy(machine, plan, yardstick, leaderboard):
        lines.append(told)
    name, count, price = purchase
    return [f"{task.stem}: {line.strip()}" for line in [*lines, *hours_on(plan, definition, name, count, price)]]
