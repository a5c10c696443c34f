"""Verbs that train: run, replay."""

import json
import os
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.app import AsJson, EntryPath, TaskPath, app, err, example, is_rank, speaks
from bench.entry import Entry
from bench.errors import BenchError
from bench.launch import launch, torchrun_line
from bench.places import PUBLISHED, RUNS, check_folder, data_folder
from bench.task import parse_rung, read_task, rung_name

if TYPE_CHECKING:
    from bench.record import Record
    from bench.replay import Replayed


class Device(StrEnum):
    cpu = "cpu"
    cuda = "cuda"


def without(arguments: list[str], *options: str) -> list[str]:
    """Return the arguments without some options and their values."""
    kept, skip = [], False
    for argument in arguments:
        if skip or argument.split("=")[0] in options:
            skip = not skip and "=" not in argument
            continue
        kept.append(argument)
    return kept


@app.command(**example("run tasks/smoke.toml baselines/muon/muon.toml --budget 0.5x --budget 1x --seed 0 --seed 1"))
def run(
    task: TaskPath,
    entry: EntryPath,
    budget: Annotated[list[str] | None, typer.Option(help="a rung of the task's ladder; may be repeated")] = None,
    seed: Annotated[list[int] | None, typer.Option(min=0, max=2**32 - 1, help="may be repeated")] = None,
    mode: Annotated[str, typer.Option(help="a mode of bench/quantize/modes")] = "bf16",
    values: Annotated[Path | None, typer.Option(help="TOML of hyperparameters to set by hand")] = None,
    records: Annotated[Path, typer.Option(help="where records go")] = RUNS / "records",
    checkpoint_seconds: Annotated[float, typer.Option(help="least time between two checkpoints")] = 30.0,
    again: Annotated[bool, typer.Option("--again", help="make runs anew that have a record")] = False,
    device: Annotated[Device | None, typer.Option(help="the GPU where there is one", show_default=False)] = None,
    devices: Annotated[int, typer.Option(min=1, help="ranks on this machine, one a device")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="more than one: print what to start on each")] = 1,
    micro_batch: Annotated[
        int | None, typer.Option(min=1, help="sequences per forward pass, if not the task's; recorded")
    ] = None,
    keep_weights: Annotated[
        Path | None, typer.Option(help="folder to export the evaluated weights of finished float runs to")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a task with an entry: one record for each budget and seed. Killed, it goes on where it was."""
    from bench.mode import read_mode
    from bench.overrides import read_values

    definition, found = read_task(task), Entry(entry)
    read_mode(mode, "training")
    check_folder(records)
    chosen = found.values(read_values(values) if values else {}, values)
    rungs = [parse_rung(name, definition, str(task)) for name in budget or ["1x"]]

    from bench.assemble import Request, micro_batch_of
    from bench.display import watch_run
    from bench.record import read_record
    from bench.run import run as make
    from bench.setting import Places

    if devices * nodes > 1 and not is_rank():
        micro_batch_of(definition, devices * nodes, micro_batch)
        again_here = without(sys.argv[1:], "--devices", "--nodes")
        if nodes > 1:
            print(torchrun_line(nodes, devices, again_here))
            return
        raise typer.Exit(launch(devices, again_here, device))
    places = Places(data_folder(), RUNS / "work", records, keep_weights)
    for one_seed in seed or [0]:
        for rung in rungs:
            request = Request(task.stem, definition, found, chosen, mode, rung, "declared", one_seed,
                              device=device, micro_batch=micro_batch)  # fmt: skip
            title = f"{task.stem} {found.name} {rung_name(rung)} seed {one_seed}"
            try:
                with watch_run(title, err) as watch:
                    path = make(request, places, watch, checkpoint_seconds, again)
            except KeyboardInterrupt:
                if not is_rank():
                    err.print("stopped: the same command goes on from the last checkpoint")
                raise
            if not speaks():
                continue
            record = read_record(path)
            if as_json:
                print(json.dumps({"record": str(path), "outcome": record.outcome, "score_loss": record.score_loss}))
            else:
                print(f"{title}: {_ending(record)}  {path}")


def _ending(record: Any) -> str:
    if record.outcome != "finished":
        return f"{record.outcome}: {record.cause}"
    rate = record.tokens / record.cost.train_seconds if record.cost.train_seconds else 0
    memory = f", {record.cost.peak_memory_bytes / 2**20:,.0f} MiB" if record.cost.peak_memory_bytes else ""
    return f"loss {record.score_loss:.4f} ({rate:,.0f} tokens/s{memory})"


@app.command(**example("replay leaderboard/records/nano/declared/<run_id>.json --steps 100"))
def replay(
    record: Annotated[Path, typer.Argument(help="a record", show_default=False)],
    steps: Annotated[int | None, typer.Option(help="only the first so many; all by default")] = None,
    keep_weights: Annotated[
        Path | None, typer.Option(help="folder to export the evaluated weights to; they must match the record")
    ] = None,
    eager: Annotated[bool, typer.Option("--eager", help="not compiled: what compiling moved the loss by")] = False,
    tasks: Annotated[Path, typer.Option(help="folder of tasks")] = Path("tasks"),
    baselines: Annotated[Path, typer.Option(help="folder of algorithms")] = Path("baselines"),
    as_json: AsJson = False,
) -> None:
    """Make a record's run again and say: identical, within band, or different and where first. Exit 1 if different."""
    from bench.record import read_record

    machine = read_record(record).machine
    if machine.ranks > 1 and not is_rank():
        on_cpu = not machine.instructions.startswith("compute")  # then its ranks may share cores
        raise typer.Exit(launch(machine.ranks, sys.argv[1:], "cpu" if on_cpu else None))
    result = make_again(record, tasks, baselines, steps, keep_weights, eager)
    if as_json:
        print(json.dumps({**asdict(result), "machine": result.machine.model_dump(mode="json")}, default=str))
    else:
        where = "" if result.first_difference is None else f", first at step {result.first_difference}"
        gap = "" if result.verdict == "identical" else f" (gap {result.largest_gap:.2g} nats{where})"
        print(f"{result.verdict} over {result.steps} steps{gap}")
        if result.differing:
            print(f"  not given again: {', '.join(result.differing)}")
        for note in result.notes:
            print(f"  {note}")
    raise typer.Exit(1 if result.verdict == "different" else 0)


def make_again(
    record: Path,
    tasks: Path,
    baselines: Path,
    steps: int | None = None,
    keep_weights: Path | None = None,
    eager: bool = False,
    as_it_is: bool = False,
) -> "Replayed":
    """Replay a record in this process; one made on several ranks needs the verb, which starts them.

    Where it is known under which switches this processor gives the record's bits, they are set, unless some are set
    already or the machine is to be left as it is.
    """
    from bench.record import read_record

    found = read_record(record)
    inputs = found.inputs
    if found.machine.ranks > 1 and not is_rank():
        keep = f" --keep-weights {keep_weights}" if keep_weights else ""
        raise BenchError(f"{record}: made on {found.machine.ranks} ranks", f"first bench replay {record}{keep}")
    from bench.plan import PLACEBO

    definition = read_task(tasks / f"{inputs.task}.toml")
    paths = sorted(baselines.glob(f"*/{inputs.entry.partition(PLACEBO)[0]}.toml"))
    if not paths:
        raise BenchError(f"{record}: no entry {inputs.entry} in {baselines}", "name its folder with --baselines")

    if not as_it_is:
        set_switches(found)
    from bench.display import watch_run
    from bench.replay import replay as replayed
    from bench.setting import Places

    with watch_run(f"replay {inputs.task} {inputs.entry}", err) as watch:
        places = Places(data_folder(), RUNS / "work", RUNS / "records")
        return replayed(record, definition, Entry(paths[0]), places, watch, steps, keep_weights, eager)


def set_switches(record: "Record") -> None:
    """Choose the kernels of the record's machine, before the first of them is called."""
    import torch

    from bench.machine import kernel_switches, machine_facts
    from bench.standin import as_typed, read_stand_ins, switches_to_repeat

    here = machine_facts(torch.device("cuda" if torch.cuda.is_available() else "cpu"), 1, False).processor
    switches = {} if kernel_switches() else switches_to_repeat(record, here, read_stand_ins(PUBLISHED, record.task))
    if switches:
        os.environ.update(switches)
        err.print(
            f"with {as_typed(switches)}, under which this processor gives the record's bits",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
