"""The task's page: its facts, what its seeds can tell, what taking part costs, and all speedups in one picture."""

import statistics
from dataclasses import dataclass

import altair as alt

from bench.mode import FLOAT
from bench.outlook import ladder_tokens, levelling_tokens, searched_tokens
from bench.pages import words
from bench.pages.charts import ARROWS_ACROSS, COLOURS, RATIOS, WIDTH, arrows
from bench.pages.drawing import INK, Drawn, chart_of, draw
from bench.pages.marks import closed_ends, drawn_ends, open_ends
from bench.pages.views import BoardView, Line, Material
from bench.score.board import Board
from bench.score.power import smallest_speedup
from bench.score.statistics import LEVEL, Noise, level_of_look
from bench.task import HubText, rung_name

SEEDS = 3  # of an entry at every rung (protocol D)
LINE = 22  # pixels of an entry in the forest


def task_facts(name: str, material: Material) -> list[tuple[str, str]]:
    task = material.tasks[name]
    m, t, data = task.model, task.training, task.data
    text = f"{data.dataset}, revision {data.revision[:12]}" if isinstance(data, HubText) else "a generated language"
    one = material.text_tokens.get(name)
    return [
        ("Model", f"{m.family}, {m.layers} layers, width {m.width}, feed-forward {m.ffn}, {m.heads} heads"),
        ("Parameters in the blocks", words.count(task.matrix_parameters)),
        ("Vocabulary", f"{m.vocabulary:,} (padded to {m.padded_vocabulary:,}), {'tied' if m.tied else 'untied'} head"),
        ("Text", f"{text}; tokens are {data.tokenizer}"),
        ("One pass over the text", f"about {words.short(one)} tokens" if one else words.MISSING),
        ("Batch", f"{t.batch_sequences} sequences of {t.context} tokens: {t.batch_tokens:,} tokens a step"),
        ("1x", f"{task.budget.tokens:,} tokens in {task.steps(1.0):,} steps"),
        ("Ladder", ", ".join(rung_name(rung) for rung in task.budget.rungs)),
        ("Gradient clipping", f"global norm {t.clip:g}"),
        ("Reference", task.reference),
        ("Threads", f"{t.threads}; {'compiled' if t.compiled else 'not compiled'}"),
        ("Version and digest", f"{task.version}, {task.digest}"),
    ]


@dataclass(frozen=True)
class Power:
    """What a board's seeds can tell at one budget."""

    budget: float
    deviation: float | None  # of the reference's seeds there, nats
    seeds: int  # of the reference
    smallest: float | None  # speedup that SEEDS seeds find with 80% probability
    ranked: bool


def powers(board: Board) -> list[Power]:
    """Return what can be detected at each budget of the reference's ladder; nothing without a curve."""
    if board.curve is None:
        return []
    measured = [rung for rung in board.reference.rungs if rung.losses]
    noise = Noise(None if board.noise is None else board.noise**2, board.degrees_of_freedom)
    seeds = [len(rung.losses) for rung in sorted(measured, key=lambda rung: rung.charged_tokens)]
    level = LEVEL if board.scorer is None else level_of_look(board.scorer.reference_look)
    found = []
    for rung in measured[:-1]:  # past the ladder's end nothing is read
        tokens, df = rung.charged_tokens, {} if board.tau_df is None else {"tau_df": board.tau_df}
        smallest = smallest_speedup(board.curve, tokens, noise, SEEDS, seeds, board.tau, level=level, **df)
        found.append(Power(rung.budget, rung.deviation, len(rung.losses), smallest, rung.budget not in board.unstable))
    return found


@dataclass(frozen=True)
class Price:
    """What an entry's plan on the task takes."""

    entry: str  # whose plan it is
    tuning_tokens: int
    scored_tokens: int
    hours: float | None  # of one process here, at the median step of its runs in float


def price(name: str, material: Material) -> Price | None:
    """Return what the plan of an ordinary entry takes, on as many tracks as there are; None where there is none."""
    plans = [study.plan for study in material.studies.get(name, []) if study.plan.yardstick is not None]
    plans = [plan for plan in plans if plan.after is None and not material.label(plan.entry)]
    if not plans:
        return None
    plan, task = max(plans, key=lambda plan: len(plan.tracks)), material.tasks[name]
    laps = [record.cost.step_seconds for record in material.records
            if (record.task, record.entry, record.inputs.mode) == (name, plan.entry, FLOAT)
            and record.cost.step_seconds]  # fmt: skip
    tuning, scored = searched_tokens(plan, task) + levelling_tokens(plan, task), ladder_tokens(plan, task)
    steps = (tuning + scored) / task.training.batch_tokens
    return Price(plan.entry, tuning, scored, steps * statistics.median(laps) / 3600 if laps else None)


def forest(view: BoardView, number: str) -> Drawn:
    """Return every entry's speedup at its headline budget with its interval, the best above.

    A bound is a triangle in the dot's place; an end that is open lies at the chart's edge, as an arrow.
    """
    lines = [line for line in view.headline if line.speedup is not None]
    ends = [1.0, *(end for line in lines if line.speedup for end in closed_ends(line.speedup))]
    low, high = min(ends) / 1.05, max(ends) * 1.05
    points = [_point(line, low, high) for line in lines]
    edges = [{"entry": line.row.entry, "edge": edge, "side": side}
             for line in lines if line.speedup for edge, side in open_ends(line.speedup, low, high)]  # fmt: skip
    x = alt.Scale(type="log", domain=[low, high], nice=False)
    order = [line.row.entry for line in lines]
    y = alt.Y("entry:N", sort=order, title=None, axis=alt.Axis(labelLimit=220, ticks=False, domain=False))
    tip = alt.Tooltip("say:N")
    base = chart_of(points)
    layers = [
        chart_of([{"one": 1.0}]).mark_rule(color=INK, strokeDash=[2, 3]).encode(
            x=alt.X("one:Q", scale=x, axis=RATIOS, title="speedup at equal loss (log scale)")),
        base.mark_rule(color=COLOURS[0], strokeWidth=2.5).encode(
            x=alt.X("low:Q", scale=x), x2=alt.X2("high:Q"), y=y, tooltip=tip),
        base.mark_point(color=COLOURS[0], filled=True, size=70, opacity=1).encode(
            x=alt.X("figure:Q", scale=x), y=y, tooltip=tip,
            shape=alt.Shape("bound:N", scale=alt.Scale(domain=["=", ">=", "<="],
                                                       range=["circle", "triangle-right", "triangle-left"]),
                            legend=None)),
        *arrows(edges, ARROWS_ACROSS, x=alt.X("edge:Q", scale=x), y=y, color=alt.ColorValue(COLOURS[0])),
    ]  # fmt: skip
    chart = alt.layer(*layers).properties(width=WIDTH, height=max(1, len(lines)) * LINE)
    told = "; ".join(f"{point['say']}" for point in points)
    return draw(chart, f"Speedups on {view.name}", f"From the top: {told}.", number)


def _point(line: Line, low: float, high: float) -> dict[str, object]:
    found = line.speedup
    assert found is not None
    said = f"{line.row.entry} {words.speedup(found)} at {rung_name(line.rung.budget)}"
    said += f" ({line.repeats})" if line.repeats else ""
    ends, (start, end) = words.interval(found), drawn_ends(found, low, high)
    return {
        "entry": line.row.entry, "figure": found.figure, "bound": found.bound, "low": start, "high": end,
        "say": said + (f", interval {ends}" if ends != words.MISSING else ""),
    }  # fmt: skip
