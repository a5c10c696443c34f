"""The verb that puts a record's weights into the modes of a finished checkpoint."""

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.app import Format, app, err, example
from bench.errors import BenchError
from bench.places import RUNS, check_writable, data_folder
from bench.task import read_task, rung_name

if TYPE_CHECKING:
    from bench.children import AfterTraining, Quantized
    from bench.record import Rounding


@app.command(**example("quantize leaderboard/records/nano/<plan>/<run_id>.json ptq-w4 ptq-w4a4"))
def quantize(
    record: Annotated[Path, typer.Argument(help="a record of a run that trained in float", show_default=False)],
    modes: Annotated[list[str] | None, typer.Argument(help="modes of a finished checkpoint; all by default")] = None,
    weights: Annotated[Path, typer.Option(help="folder where bench replay --keep-weights put them")] = RUNS / "weights",
    replay: Annotated[bool, typer.Option("--replay", help="make weights that are missing, by a replay")] = False,
    again: Annotated[bool, typer.Option("--again", help="measure anew what was measured")] = False,
    tasks: Annotated[Path, typer.Option(help="folder of tasks")] = Path("tasks"),
    baselines: Annotated[Path, typer.Option(help="folder of algorithms")] = Path("baselines"),
    output: Annotated[Format, typer.Option("--format", help="of the table")] = Format.plain,
) -> None:
    """Round a record's weights by each mode and score them; what comes of it goes to a file beside the record.

    Weights and inputs of the linear layers inside the blocks are rounded. Head, embeddings, norms, biases and the
    products inside attention stay float.
    """
    from bench.mode import mode_names, read_mode
    from bench.record import read_record

    after = [name for name in mode_names() if read_mode(name).kind == "after"]
    wanted = [name for name in dict.fromkeys(modes or after) if read_mode(name, "after")]
    found = read_record(record)
    definition = read_task(tasks / f"{found.task}.toml")
    if read_mode(found.inputs.mode).quantizes or found.outcome != "finished":
        how = found.outcome if found.outcome != "finished" else f"trained in {found.inputs.mode}"
        raise BenchError(f"{record}: these modes act on finished runs in float, and this one {how}")

    from bench.children import AfterTraining, quantized_path, read_quantized
    from bench.evaluate.finished import measure_finished, missing_weights, uncrossed

    check_writable(record)
    if replay and missing_weights(record, definition, wanted, weights, again):
        from bench.cli.runs import make_again

        make_again(record, tasks, baselines, keep_weights=weights)
    for name, measured in measure_finished(record, definition, wanted, weights, data_folder(), again):
        took = f"{measured.seconds:.1f} s" if isinstance(measured, AfterTraining) else "failed"
        err.print(f"{name}: {took}", markup=False, highlight=False)
    if lost := uncrossed(record, definition, wanted):
        losses = ", ".join(f"{loss:g}" for loss in lost)
        lacking = f"not measured at the common losses {losses}: their weights are not here, --replay makes them"
        err.print(lacking, markup=False, highlight=False, soft_wrap=True)
    path = quantized_path(record)
    child = read_quantized(path)
    title = f"{found.task} {found.entry} {rung_name(found.inputs.budget)} seed {found.inputs.seed}"
    print(_render(child, wanted, title, output.value), end="")
    err.print(f"{path}", markup=False, highlight=False, soft_wrap=True)
    if failed := [f"{name}: {child.failed[name].cause}" for name in wanted if name in child.failed]:
        raise BenchError(f"could not be measured: {'; '.join(failed)}", "the other modes stand beside the record")


COLUMNS = ("mode", "loss", "degradation", "perplexity", "layers", "weights", "activations", "notes")
FIELDS = (
    "mode", "loss", "degradation", "perplexity", "layers",
    "weights_bits", "weights_least_levels", "weights_levels", "weights_clipped",
    "activations_bits", "activations_least_levels", "activations_levels", "activations_clipped",
    "gptq_fallbacks", "hawq_average_bits", "cause",
)  # fmt: skip


def _render(child: "Quantized", names: list[str], title: str, format: str) -> str:
    """Return a line for each mode, most harmful last; as JSON or CSV the table alone, in full precision."""
    from tabulate import tabulate

    if format == "json":
        return child.model_dump_json(by_alias=True) + "\n"
    shown = {name: child.modes[name] for name in names if name in child.modes}
    order = sorted(shown, key=lambda name: (shown[name].degradation is None, shown[name].degradation or 0.0, name))
    lost = [name for name in names if name in child.failed]
    if format == "csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(_facts(name, shown[name]) for name in order)
        writer.writerows({"mode": name, "cause": child.failed[name].cause} for name in lost)
        return text.getvalue()
    align = ["left", *["right"] * 4, "left", "left", "left"]
    lines = [_line(name, shown[name]) for name in order]
    lines += [[name, *[""] * 6, f"failed: {child.failed[name].cause}"] for name in lost]
    table = tabulate(lines, COLUMNS, tablefmt=format, disable_numparse=True, colalign=align)
    floats = {_figure(found.quantization.float_score_loss, 4) for found in shown.values()}
    notes = [
        title,
        f"nats a token on the scoring half, degradation against the same weights in float ({', '.join(floats)})",
        "weights, activations: bits (a mean where they are chosen), distinct levels in a row, share clipped",
    ]
    return "\n".join([table, *notes]) + "\n"


def _facts(name: str, found: "AfterTraining") -> dict[str, Any]:
    """Return a line of the CSV: one figure a column, empty where there is none."""
    facts = {
        "mode": name, "loss": found.loss, "degradation": found.degradation, "perplexity": found.perplexity,
        "layers": found.quantization.actual.count, "gptq_fallbacks": found.gptq and found.gptq.fallbacks,
        "hawq_average_bits": found.hawq and found.hawq.average,
    }  # fmt: skip
    for side, one in (("weights", found.quantization.weights), ("activations", found.quantization.activations)):
        if one is not None:
            few, most = one.levels
            columns = {"bits": one.bits, "least_levels": few, "levels": most, "clipped": one.clipped}
            facts |= {f"{side}_{fact}": value for fact, value in columns.items()}
    return facts


def _line(name: str, found: "AfterTraining") -> list[str]:
    proof, average, notes = found.quantization, found.hawq.average if found.hawq else None, []
    if found.fallen_back:
        notes.append(found.fallen_back)
    if found.gptq and len(found.gptq.dampings) > 1:
        notes.append("damping " + " ".join(f"{share}: {count}" for share, count in found.gptq.dampings.items()))
    if found.hawq:
        notes.append(f"{found.hawq.draws} draws")
    if found.hawq and found.hawq.negative:
        notes.append(f"{found.hawq.negative} negative traces")
    return [
        name, _figure(found.loss, 4), _figure(found.degradation, 4), _figure(found.perplexity, 2),
        str(proof.actual.count), _rounding(proof.weights, average), _rounding(proof.activations), "; ".join(notes),
    ]  # fmt: skip


def _rounding(found: "Rounding | None", average: float | None = None) -> str:
    if found is None:
        return "float"
    few, most = found.levels
    bits = found.bits if average is None else f"{average:.2f}"
    return f"{bits} ({few if few == most else f'{few}-{most}'}, {found.clipped:.1%})"


def _figure(number: float | None, digits: int) -> str:
    return "no number" if number is None else f"{number:.{digits}f}" if abs(number) < 1e6 else f"{number:.3g}"
