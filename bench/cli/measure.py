"""Verbs that measure what no plan asks for: time, refine, challenge, stand-in."""

import os
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.app import EntryPath, TaskPath, app, err, example
from bench.entry import Entry, find_entries
from bench.errors import BenchError
from bench.mode import read_mode
from bench.places import PUBLISHED, RUNS, data_folder
from bench.plan import PLACEBO
from bench.task import parse_rung, read_task


@app.command(**example("time tasks/nano.toml baselines/muon/muon.toml baselines/soap/soap.toml"))
def time(
    task: TaskPath,
    entries: Annotated[list[Path], typer.Argument(help="one or more entries", show_default=False)],
    mode: Annotated[str, typer.Option(help="a mode of training")] = "bf16",
    steps: Annotated[int, typer.Option(min=1, help="of each part of a turn; whole periods of the method")] = 32,
    turns: Annotated[int, typer.Option(min=1, help="A B B A so often")] = 5,
    baselines: Annotated[Path, typer.Option(help="folder of algorithms, the reference among them")] = Path("baselines"),
    leaderboard: Annotated[Path, typer.Option(help="folder of timings")] = PUBLISHED,
) -> None:
    """Time the steps of entries against the task's reference, interleaved, on a machine that does nothing else."""
    from bench.setting import Watch
    from bench.stepping import measure_steps
    from bench.timings import read_timing, timing_path, write_timing

    definition = read_task(task)
    references = [entry for entry in find_entries(baselines) if entry.name == definition.reference]
    if not references:
        raise BenchError(f"{baselines}: no {definition.reference} here", "--baselines names the reference's folder")
    watch = Watch(say=lambda line: err.print(line, markup=False, highlight=False))
    for entry in [Entry(path) for path in entries]:
        setting, facts = measure_steps(
            task.stem, definition, references[0], entry, mode, data_folder(), watch, steps, turns
        )
        path = timing_path(leaderboard, task.stem, entry.name, mode, setting.machine.kind)
        write_timing(
            path,
            {
                "task": task.stem,
                "task_digest": definition.digest,
                "mode": mode,
                "entry": entry.name,
                "entry_digest": entry.digest,
                "reference": references[0].name,
                "reference_digest": references[0].digest,
                "machine": setting.machine.model_dump(mode="json"),
                "who": setting.who,
                **facts,
            },
        )
        found = read_timing(path)
        low, high = found.ends
        print(f"{entry.name}: {found.ratio:.3f} of {found.reference}'s step ({low:.3f} to {high:.3f}): {path}")


@app.command(**example("refine tasks/nano.toml baselines/adamw/adamw.toml --values tuned.toml"))
def refine(
    task: TaskPath,
    entry: EntryPath,
    budget: Annotated[str, typer.Option(help="a rung of the task's ladder")] = "1x",
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="of tuning: scoring seeds are below 1000")] = 1000,
    values: Annotated[Path | None, typer.Option(help="TOML of hyperparameters; the declared ones if none")] = None,
) -> None:
    """Train once, and print the schedule that the run's own gradient norms ask for, as an entry's TOML has it."""
    from bench.assemble import Request
    from bench.display import watch_run
    from bench.overrides import read_values
    from bench.refine import gradient_norms, refined_shape

    definition, found = read_task(task), Entry(entry)
    rung = parse_rung(budget, definition, str(task))
    chosen = found.values(read_values(values) if values else {})
    request = Request(task.stem, definition, found, chosen, "bf16", rung, "declared", seed)
    with watch_run(f"{task.stem} {found.name} {budget} seed {seed}", err) as watch:
        shape = refined_shape(gradient_norms(request, data_folder(), watch))
    given = ", ".join(f"{name} {value}" for name, value in sorted(chosen.items()))
    print(f"# bench refine {task} {entry} --budget {budget} --seed {seed}: {given}")
    print(f'[schedule]\nkind = "refined"\nwarmup_fraction = 0.02\nshape = [{", ".join(map(str, shape))}]')


@app.command(**example("challenge tasks/nano.toml"))
def challenge(
    task: TaskPath,
    baselines: Annotated[Path, typer.Option(help="folder of algorithms, the yardstick among them")] = Path("baselines"),
    leaderboard: Annotated[Path, typer.Option(help="folder of plans, ledgers and records")] = PUBLISHED,
) -> None:
    """Run five seeds of every trial that beat the yardstick, and say whether it is undertuned; exit 1 if it is."""
    from bench.assemble import Request
    from bench.display import watch_run
    from bench.index import load_index
    from bench.ledger import read_studies
    from bench.orders import tuned_of
    from bench.record import read_record
    from bench.run import run as make
    from bench.score.alarm import SEEDS, alarm_note, alarms_of, judged
    from bench.score.cells import select
    from bench.setting import Places, Watch, settle
    from bench.task import Rest, rung_name
    from bench.tuned import rest_of

    definition = read_task(task)
    entries = {entry.name: entry for entry in find_entries(baselines)}
    folder = leaderboard / "records"
    rows = load_index([folder], RUNS / "index")
    chosen = select(rows, definition.digest, "bf16", "tuned", definition.reference, None)
    alarms = alarms_of(read_studies(leaderboard, task.stem, definition.digest), chosen, definition.reference)
    places = Places(data_folder(), RUNS / "work", folder)
    for alarm in alarms:
        name = alarm.entry.partition(PLACEBO)[0]
        if name not in entries or entries[name].digest != alarm.entry_digest:
            why = "is not here" if name not in entries else "is of other code than its plan's"
            raise BenchError(f"{baselines}: {name}, a trial of which beat {definition.reference}, {why}",
                             "name the folder of the entry as it was planned with --baselines")  # fmt: skip
        entry = entries[name]
        lent = tuned_of(entries[definition.reference].path, task.stem, definition.reference).at(alarm.rung)
        for seed in range(SEEDS):
            request = Request(task.stem, definition, entry, alarm.values, "bf16", alarm.rung, "declared", seed,
                              rest=None if entry.facts.scope == "full" else Rest(**rest_of(lent)))  # fmt: skip
            if (kind := settle(request, Watch()).machine.kind) != chosen.machine_kinds[0]:
                raise BenchError(f"this machine is of kind {kind[:12]}, {definition.reference}'s records are of "
                                 f"{chosen.machine_kinds[0][:12]}: losses of two kinds are not compared",
                                 "challenge it on a machine of its kind, with the same environment")  # fmt: skip
            with watch_run(f"{task.stem} {entry.name} {rung_name(alarm.rung)} seed {seed}", err) as watch:
                make(request, places, watch)
    rows = load_index([folder], RUNS / "index")
    verdicts = judged(alarms, rows, chosen, definition.reference, lambda row: read_record(Path(row.path)))
    for verdict in verdicts:
        print(alarm_note(verdict, definition.reference))
    if not alarms:
        print(f"no trial beats {definition.reference} by more than its noise")
    if any(verdict.holds for verdict in verdicts):
        raise typer.Exit(1)


@app.command("stand-in", **example("stand-in tasks/nano.toml --mode bf16"))
def stand_in(
    task: TaskPath,
    mode: Annotated[list[str] | None, typer.Option(help="a mode of training; all that have records by default")] = None,
    tasks: Annotated[Path, typer.Option(help="folder of tasks")] = Path("tasks"),
    baselines: Annotated[Path, typer.Option(help="folder of algorithms")] = Path("baselines"),
    leaderboard: Annotated[Path, typer.Option(help="folder of records and of what is shown")] = PUBLISHED,
) -> None:
    """Show that this processor gives the bits of the one that a task was measured on: a run of each algorithm, whole.

    Then BENCH_STAND_IN, naming the file that is written, lets plans of that machine go on here.
    """
    from bench.assemble import Request
    from bench.cli.runs import make_again
    from bench.index import load_index
    from bench.record import read_record
    from bench.setting import Watch, settle
    from bench.standin import VARIABLE, add_shown, runs_to_show

    os.environ.pop(VARIABLE, None)  # what is to be shown is not taken for granted
    for name in mode or []:
        read_mode(name, "training")
    definition = read_task(task)
    entries = {entry.name: entry for entry in find_entries(baselines)}
    algorithms = {name: entry.path.parent.name for name, entry in entries.items()}
    reference = entries.get(definition.reference)
    if reference is None:
        raise BenchError(f"{baselines}: no {definition.reference} here", "--baselines names the reference's folder")
    request = Request(task.stem, definition, reference, reference.values({}), "bf16", 1.0, "declared", 0)
    setting = settle(request, Watch())
    rows = load_index([leaderboard / "records"], RUNS / "index")
    wanted = runs_to_show(rows, definition, algorithms, mode or [], setting.machine, leaderboard)
    if not wanted:
        print(f"nothing to show: no other processor's run of {task.stem} at 1x that this one did not give again")
    for path, target in wanted:
        record = read_record(path)
        result = make_again(path, tasks, baselines, as_it_is=True)
        but = f", but for {', '.join(result.differing)}" if result.differing else ""
        print(f"{record.entry} in {record.inputs.mode}: {result.verdict} over {result.steps} steps{but}", flush=True)
        same = result.first_difference is None and set(result.differing) <= {"facts"}
        if not same:
            raise BenchError(
                f"{path}: not the same bits here: {'; '.join(result.notes) or 'nothing tells the machines apart'}",
                "oneDNN's kernels are chosen by ONEDNN_MAX_CPU_ISA: try the widest that both processors have",
            )
        add_shown(target, record, algorithms[record.entry], result.machine, setting.who, result.differing)
        print(target)
