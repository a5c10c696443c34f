"""The verb that puts downstream tasks to a record's model."""

import csv
import io
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.app import Format, app, err, example
from bench.errors import BenchError, did_you_mean
from bench.mode import check_mode
from bench.places import RUNS, check_writable, data_folder
from bench.task import read_task, rung_name

if TYPE_CHECKING:
    from bench.children import ModeScores, TaskScores

NAMES = ("lambada_openai", "piqa", "arc_easy", "hellaswag", "winogrande", "blimp")


@app.command(**example("downstream leaderboard/records/nano/<plan>/<run_id>.json --limit 20"))
def downstream(
    record: Annotated[Path, typer.Argument(help="a record", show_default=False)],
    mode: Annotated[str | None, typer.Option(help="mode of evaluation; the record's own by default")] = None,
    only: Annotated[list[str] | None, typer.Option(help="a downstream task; may be repeated; all by default")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="documents of a task: a first look, not written")] = None,
    weights: Annotated[Path, typer.Option(help="folder where bench replay --keep-weights put them")] = RUNS / "weights",
    replay: Annotated[bool, typer.Option("--replay", help="make weights that are missing, by a replay")] = False,
    again: Annotated[bool, typer.Option("--again", help="put tasks anew that have scores")] = False,
    tasks: Annotated[Path, typer.Option(help="folder of tasks")] = Path("tasks"),
    baselines: Annotated[Path, typer.Option(help="folder of algorithms")] = Path("baselines"),
    output: Annotated[Format, typer.Option("--format", help="of the table")] = Format.plain,
) -> None:
    """Put downstream tasks to a record's model by lm-eval, in memory; the scores go to a file beside the record."""
    from bench.record import read_record

    found = read_record(record)
    check_mode(mode or found.inputs.mode, found.inputs.mode)
    definition = read_task(tasks / f"{found.task}.toml")
    unknown = next((name for name in only or () if name not in NAMES), None)
    if unknown is not None:
        raise BenchError(f"no downstream task {unknown}{did_you_mean(unknown, NAMES)}", f"known: {', '.join(NAMES)}")
    if find_spec("lm_eval") is None or find_spec("accelerate") is None:
        raise BenchError("this verb needs lm-eval, which is not installed", "pip install -e '.[downstream]'")
    os.environ.setdefault("TQDM_DISABLE", "1")  # before its first import: lm-eval's bars, many a task, beside ours

    from bench.children import downstream_path, put_alike, read_downstream, write_downstream
    from bench.display import watch_questions
    from bench.evaluate.downstream import Wanted, measure
    from bench.evaluate.questions import available
    from bench.evaluate.tokenizer import harness_tokenizer
    from bench.evaluate.weights import restored

    def say(line: str) -> None:
        err.print(line, markup=False, highlight=False, soft_wrap=True)

    harness_tokenizer(definition.data)  # refuses a task without English before anything is made
    if limit is None:
        check_writable(record)
    names, missing = available(list(dict.fromkeys(only or NAMES)))
    if missing and (only or not names):
        raise missing[0]
    for error in missing:
        say(f"left out: {error.what}")
    if replay and not (weights / found.run_id / "config.json").is_file():
        from bench.cli.runs import make_again

        make_again(record, tasks, baselines, keep_weights=weights)
    model, name, path = restored(found, definition, weights, record), mode or found.inputs.mode, downstream_path(record)
    before = read_downstream(path).modes if path.exists() else {}

    def there(now: "ModeScores") -> set[str]:
        alike = not again and limit is None and name in before and put_alike(before[name], now)
        return set(before[name].tasks) if alike else set()

    def keep(now: "ModeScores") -> None:
        if limit is None:
            write_downstream(path, found.run_id, now_weights, name, now)

    now_weights = found.weights.evaluated or ""
    title = f"{found.task} {found.entry} {rung_name(found.inputs.budget)} seed {found.inputs.seed}"
    with watch_questions(title, err) as report:
        scores = measure(found, definition, model, name, data_folder(), Wanted(names, limit, there, keep, report, say))
    if limit is None:
        scores = read_downstream(path).modes[name]
    print(_render(scores, title, name, output.value))
    say(f"a first look at {limit} documents of each task: nothing is written" if limit else f"{path}")


def _render(scores: "ModeScores", title: str, mode: str, format: str) -> str:
    """Return the table of one mode, and what holds for all of it; as JSON or CSV the table alone."""
    from tabulate import tabulate

    if format == "json":
        return scores.model_dump_json()
    if format == "csv":
        return _csv(scores, mode)
    head = ["task", "score", "value", "stderr", "chance", "bits per byte", "documents", "split"]
    lines = [line for name, found in sorted(scores.tasks.items()) for line in _lines(name, found)]
    align = ["left", "left", *["right"] * 5, "left"]
    table = tabulate(lines, head, tablefmt=format, disable_numparse=True, colalign=align)
    text = scores.text_bits_per_byte
    cut = {name: found for name, found in sorted(scores.tasks.items()) if found.cut or found.pieced}
    notes = [
        f"{title}, mode {mode}" + (f" ({scores.quantized} layers rounded)" if scores.quantized else ""),
        "" if text is None else f"{text:.4f} bits per byte of the task's scoring text",
        f"zero-shot by lm-eval {scores.lm_eval}, {scores.batch} requests a batch, padded on the {scores.padding}, "
        f"weights {scores.dtype}, products {scores.autocast}, context {scores.context} tokens",
        *(f"{name}: {found.cut} requests cut on the left to fit the context, {found.pieced} continuations longer than "
          f"it read in pieces" for name, found in cut.items()),
        "at: no further from chance than two standard errors" if any("at " in line[4] for line in lines) else "",
    ]  # fmt: skip
    return "\n".join([table, *filter(None, notes)])


FIELDS = (
    "mode", "task", "score", "value", "stderr", "chance", "bits_per_byte", "documents", "split", "source",
)  # fmt: skip


def _csv(scores: "ModeScores", mode: str) -> str:
    """Return a line for each of lm-eval's figures, in full precision, empty where there is none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(FIELDS)
    for name, found in sorted(scores.tasks.items()):
        for metric, score in sorted(found.scores.items()):
            chance = found.chance if metric.startswith("acc") else None
            writer.writerow([mode, name, metric, score.value, score.stderr, chance, found.bits_per_byte,
                             found.documents, found.split, found.source])  # fmt: skip
    return text.getvalue().rstrip("\n")


def _lines(name: str, found: "TaskScores") -> list[list[str]]:
    """Return a line for each of lm-eval's figures; chance stands beside accuracies."""
    lines = []
    for metric, score in sorted(found.scores.items()):
        chance = found.chance if metric.startswith("acc") else None
        near = chance is not None and score.value is not None and abs(score.value - chance) <= 2 * (score.stderr or 0)
        lines.append([
            name, metric, _figure(score.value), _figure(score.stderr),
            "" if chance is None else f"{'at ' * near}{chance:.4f}", _figure(found.bits_per_byte),
            str(found.documents), f"{found.split} ({found.source})",
        ])  # fmt: skip
    return lines


def _figure(number: float | None) -> str:
    return "" if number is None else f"{number:.4f}" if abs(number) < 1e5 else f"{number:.3g}"
