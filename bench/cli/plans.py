"""Verbs that carry out the protocol: plan, tune, ladder, evaluate."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bench.cli.app import EntryPath, TaskPath, app, err, example
from bench.cli.planning import planned, reference_of
from bench.entry import Entry
from bench.errors import BenchError, PeerLost
from bench.places import PUBLISHED, RUNS, data_folder
from bench.plan import Plan, look_at, plan_path, plans_before, refuse_moved
from bench.task import Task, read_task

if TYPE_CHECKING:
    from bench.engine.local import Local
    from bench.engine.ray import Ray
    from bench.engine.slurm import Slurm
    from bench.orders import Paths

Placebo = Annotated[int, typer.Option(min=0, help="which further tuning of the entry, to measure tuning noise")]
Modes = Annotated[
    str | None,
    typer.Option(help="standard, all, after, none, or names with commas; what a plan that is there lacks is added"),
]
Board = Annotated[Path, typer.Option("--leaderboard", help="folder of plans, ledgers and records")]
Baselines = Annotated[Path, typer.Option(help="folder of algorithms, the yardstick among them")]
Workers = Annotated[int | None, typer.Option(min=1, help="runs side by side; as many as fit by default")]
EngineName = Annotated[Literal["local", "ray", "slurm"], typer.Option(help="what carries the runs out")]
Address = Annotated[str | None, typer.Option(help="of a Ray cluster, as 10.0.0.1:6379; one on this machine without")]
SlurmSettings = Annotated[
    list[str] | None, typer.Option("--slurm", help="a setting of the Slurm jobs, as partition=a100; may be repeated")
]


@app.command(**example("plan tasks/nano.toml baselines/muon/muon.toml"))
def plan(
    task: TaskPath,
    entry: EntryPath,
    placebo: Placebo = 0,
    after: Annotated[bool, typer.Option("--after", help="further seeds, after a look at those there are")] = False,
    modes: Modes = None,
    leaderboard: Board = PUBLISHED,
    baselines: Baselines = Path("baselines"),
) -> None:
    """Write down every run that a claim about an entry will rest on, before the first of them."""
    from bench.index import load_index
    from bench.ledger import ledger_path, read_ledger
    from bench.outlook import outlook

    definition, found = read_task(task), Entry(entry)
    plans = planned(task, definition, found, placebo, leaderboard, baselines, modes, after)
    rows = load_index([path for path in [leaderboard / "records"] if path.exists()], RUNS / "index")
    trials, look = [], look_at(definition.reference, task.stem, definition, leaderboard / "plans")
    for written in plans:
        refuse_moved(written, found)
        print(plan_path(leaderboard / "plans", written))
        trials += read_ledger(ledger_path(leaderboard / "ledgers", written), written)
        for line in outlook(written, definition, rows, trials, plans_before(written, leaderboard / "plans"), look):
            print(line)


@app.command(**example("tune tasks/nano.toml baselines/muon/muon.toml"))
def tune(
    task: TaskPath,
    entry: EntryPath,
    placebo: Placebo = 0,
    engine: EngineName = "local",
    workers: Workers = None,
    address: Address = None,
    slurm: SlurmSettings = None,
    leaderboard: Board = PUBLISHED,
    baselines: Baselines = Path("baselines"),
) -> None:
    """Run the plan's trials into the ledger, and write the tuned values."""
    _conduct("tune", task, entry, placebo, leaderboard, baselines, Choice(engine, workers, address, slurm))


@app.command(**example("ladder tasks/nano.toml baselines/muon/muon.toml"))
def ladder(
    task: TaskPath,
    entry: EntryPath,
    placebo: Placebo = 0,
    engine: EngineName = "local",
    workers: Workers = None,
    address: Address = None,
    slurm: SlurmSettings = None,
    leaderboard: Board = PUBLISHED,
    baselines: Baselines = Path("baselines"),
) -> None:
    """Run the plan's rungs and seeds, on every track, at the tuned values."""
    _conduct("ladder", task, entry, placebo, leaderboard, baselines, Choice(engine, workers, address, slurm))


@app.command(**example("evaluate tasks/nano.toml baselines/muon/muon.toml"))
def evaluate(
    task: TaskPath,
    entry: EntryPath,
    placebo: Placebo = 0,
    engine: EngineName = "local",
    workers: Workers = None,
    address: Address = None,
    slurm: SlurmSettings = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.1, help="stop after so long; the exit status is then 75")
    ] = None,
    archive: Annotated[
        Path | None, typer.Option(help="a .tar.gz for the plan, its ledger, tuned values and records")
    ] = None,
    modes: Modes = None,
    leaderboard: Board = PUBLISHED,
    baselines: Baselines = Path("baselines"),
) -> None:
    """Plan, tune and ladder in one, and the modes. Stopped at any point, the same command goes on."""
    choice = Choice(engine, workers, address, slurm)
    _conduct("evaluate", task, entry, placebo, leaderboard, baselines, choice, minutes, archive, modes)


@dataclass(frozen=True)
class Choice:
    """The engine as asked for."""

    engine: Literal["local", "ray", "slurm"]
    workers: int | None
    address: str | None
    slurm: list[str] | None

    def start(self, threads: int) -> "Local | Ray | Slurm":
        """Return the engine, ready for runs of so many threads; its libraries are imported when it is chosen."""
        for option, given, engine in (("--address", self.address, "ray"), ("--slurm", self.slurm, "slurm")):
            if given and self.engine != engine:
                raise BenchError(f"{option} goes with --engine {engine}, not with {self.engine}")
        if self.engine == "ray":
            from bench.engine.ray import Ray

            return Ray(threads, self.workers, self.address)
        if self.engine == "slurm":
            from bench.engine.slurm import Slurm

            return Slurm(threads, RUNS / "work" / "slurm", _settings(self.slurm or []), self.workers)
        from bench.engine.local import Local

        return Local(threads, self.workers)


def _settings(given: list[str]) -> dict[str, int | str]:
    pairs = [text.partition("=") for text in given]
    for name, equals, value in pairs:
        if not (name and equals and value):
            raise BenchError(f"--slurm {name}{equals}{value}: a setting is name=value", "as partition=a100")
    return {name: int(value) if value.isdecimal() else value for name, _, value in pairs}


def _conduct(
    what: str, task: Path, entry: Path, placebo: int, leaderboard: Path, baselines: Path, choice: Choice,
    minutes: float | None = None, archive: Path | None = None, modes: str | None = None,
) -> None:  # fmt: skip
    """Carry out the entry's plans in turn: the first one, further looks, and modes that were added."""
    found, definition = Entry(entry), read_task(task)
    engine = choice.start(definition.training.threads)  # first: where it cannot start, no plan is written
    try:
        plans = planned(task, definition, found, placebo, leaderboard, baselines, modes)
    except BaseException:
        engine.close()
        raise
    carry_out(what, plans, task, found, leaderboard, baselines, engine, minutes, archive)


def carry_out(
    what: str, plans: list[Plan], task: Path, entry: Entry, leaderboard: Path, baselines: Path,
    engine: "Local | Ray | Slurm", minutes: float | None = None, archive: Path | None = None,
) -> None:  # fmt: skip
    """Do what is left of plans of one entry, or of the part that is asked for; the engine is closed."""
    from bench.conduct import Conductor
    from bench.display import watch_plan
    from bench.lent import OutOfTime, pack, parts_of, time_limit

    definition = read_task(task)
    paths = _paths(task, entry.path, definition, leaderboard, baselines)
    done = failed = 0
    try:
        with watch_plan(f"{what} {task.stem} {plans[0].entry}", err) as report, time_limit(minutes):
            for mine in plans:
                conductor: Conductor = Conductor(mine, definition, paths, engine, report)
                getattr(conductor, what)()
                done, failed = done + conductor.stand.done, failed + len(conductor.stand.failures)
                for line in conductor.stand.spoilt:
                    err.print(line, markup=False, highlight=False, soft_wrap=True)
    except OutOfTime:
        err.print(f"{minutes:g} minutes are over: the same command goes on from here")
        raise typer.Exit(PeerLost.status) from None
    except KeyboardInterrupt:
        err.print("stopped: the same command goes on from here")
        raise
    finally:
        engine.close()
        if archive is not None:
            pack(archive, sorted({part for mine in plans for part in parts_of(mine, paths)}))
    print(f"{task.stem} {plans[0].entry}: {done} runs made, {failed} of them failed")


def _paths(task: Path, entry: Path, definition: Task, leaderboard: Path, baselines: Path) -> "Paths":
    from bench.orders import Paths
    from bench.setting import Places

    return Paths(
        task=task,
        entry=entry,
        yardstick=reference_of(definition, baselines),
        plans=leaderboard / "plans",
        ledgers=leaderboard / "ledgers",
        places=Places(data_folder(), RUNS / "work", leaderboard / "records", RUNS / "weights"),
    )
