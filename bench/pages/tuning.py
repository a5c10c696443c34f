"""How hard an entry was to tune: its plans' ledgers as an entry's page shows them, every trial and every failure."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from bench.entry import WARMUP, Value
from bench.errors import BenchError
from bench.ledger import SEARCHED, Study, Trial, TrialRun
from bench.mode import FLOAT
from bench.pages.plot import Axis, Band, Series, legend, plot
from bench.pages.views import Material
from bench.pages.words import plain, short
from bench.plan import Plan
from bench.score.alarm import UNJUDGED
from bench.score.search import AfterK, Line, Search, Spent, best_after_k, spent, sweep_line
from bench.task import Task, rung_name
from bench.trials import state_after
from bench.tuning import Tuned

STAGES = {
    "sweep": "learning rates a factor 2 apart, all else as declared",
    "sobol": "points of a scrambled Sobol sequence over all dimensions",
    "refine": "one dimension moved one step from the best",
    "rung": "learning rates about the neighbouring budget’s",
    "transfer": "the reference’s learning rate halved and doubled; shown, never used",
    "batch": "half and twice the task’s batch; shown, never used",
    "mode": "the tuned learning rate and its half, in a mode that trains rounded",
}


@dataclass(frozen=True)
class TrialLine:
    """One trial of a ledger."""

    trial: Trial
    cells: tuple[str, ...]  # its values, in the order of the view's names
    best: bool  # of the search at its rung
    failed: tuple[TrialRun, ...]


@dataclass(frozen=True)
class TuningView:
    """One plan's search."""

    task: str
    plan: Plan
    names: tuple[str, ...]  # of the values that trials differ in
    trials: tuple[TrialLine, ...]
    spent: Spent
    rests_on: Spent  # of these, the trials that its tuned values rest on
    search: Search | None  # with what the reference's ladder tells; None where no board has it
    after_k: tuple[AfterK, ...]
    sweep: Line
    tuned: Mapping[str, Tuned]  # what its trials led to, by mode and rung; none while the search goes on
    stands: str | None  # why the ledger is not this plan's, where it is not
    fixed: Mapping[str, Value]

    @property
    def stood_in(self) -> list[str]:
        """How many trials each processor made that counts as another, in words."""
        made = Counter(run.stand_in for line in self.trials for run in line.trial.runs[:1] if run.stand_in)
        return [f"{count} on {processor}" for processor, count in sorted(made.items())]

    @property
    def anchor(self) -> str:
        return f"tuning-{self.task}-{self.plan.digest[:8]}"


def tuning_views(entry: str, material: Material) -> list[TuningView]:
    """Return the searches of an entry that have trials, by task and look, those of modes that were added last."""
    return [
        tuning_view(study, name, material.tasks[name], _search_of(entry, name, material), studies)
        for name, studies in sorted(material.studies.items())
        for study in sorted(studies, key=lambda study: (study.plan.look, study.plan.adds_modes))
        if study.plan.entry == entry and study.trials
    ]


def _search_of(entry: str, task: str, material: Material) -> Search | None:
    """Return the search as the task's tuned board tells it."""
    for (name, _, track), searches in sorted(material.searches.items()):
        if name == task and track == "tuned":
            for search in searches:
                if search.entry == entry:
                    return search
    return None


def tuning_view(
    study: Study, name: str, task: Task, search: Search | None, studies: Iterable[Study] = ()
) -> TuningView:
    """Return a plan's search; studies are all of the task, for one that comes after another."""
    plan, trials = study.plan, study.trials
    tuned: dict[str, Tuned] = {}
    stands = None
    try:
        steps = {rung: task.steps(rung) for rung in task.budget.rungs}
        state = state_after(study, {held.plan.digest: held for held in studies}, steps)
        found = {} if state.tuned is None or plan.adds_modes else {FLOAT: state.tuned}
        tuned = found | {mode: state.in_modes[mode] for mode in plan.training_modes if mode in state.in_modes}
    except BenchError as error:
        stands = error.what
    searched = [*plan.space, WARMUP]
    others = sorted({value for trial in trials for value in trial.values} - {*searched, *plan.fixed})
    names = tuple(searched + others)
    lowest: dict[float, float] = {}
    for trial in trials:
        if trial.loss is not None and trial.stage not in UNJUDGED:
            lowest[trial.rung] = min(trial.loss, lowest.get(trial.rung, math.inf))
    return TuningView(
        task=name,
        plan=plan,
        names=names,
        trials=tuple(_line(trial, names, lowest) for trial in trials),
        spent=spent([trials]),
        rests_on=spent([[trial for trial in trials if trial.stage in SEARCHED]]),
        search=search,
        after_k=best_after_k(trials, plan.tuning.rung),
        sweep=sweep_line(trials),
        tuned=tuned,
        stands=stands,
        fixed=plan.fixed,
    )


def _line(trial: Trial, names: Sequence[str], lowest: Mapping[float, float]) -> TrialLine:
    return TrialLine(
        trial=trial,
        cells=tuple(plain(trial.values.get(name)) for name in names),
        best=trial.stage not in UNJUDGED and trial.loss == lowest.get(trial.rung, math.inf),
        failed=tuple(run for run in trial.runs if run.outcome != "finished"),
    )


def tuned_tables(view: TuningView) -> list[tuple[str, list[str], list[tuple[str, list[str]]]]]:
    """Return for each mode the budgets, and each tuned value's name with its figures at them."""
    tables = []
    for mode, tuned in view.tuned.items():
        rungs = sorted(tuned)
        names = [name for name in (*view.plan.space, WARMUP) if any(name in tuned[rung] for rung in rungs)]
        rows = [(name, [plain(tuned[rung].get(name)) for rung in rungs]) for name in names]
        tables.append((mode, [rung_name(rung) for rung in rungs], rows))
    return tables


def after_k_chart(view: TuningView, number: str) -> Markup:
    """Return the best loss so far over trials, in the ledger's order, with the band of random orders."""
    found = view.after_k
    drawn: list[Series | Band] = [
        Band("5% to 95% of random orders", [(one.trials, one.low) for one in found],
             [(one.trials, one.high) for one in found], 0),
        Series("half of random orders", [(one.trials, one.median) for one in found], "dashed", 0),
        Series("the ledger’s own order", [(one.trials, one.best) for one in found], "line", None, dots=True),
    ]  # fmt: skip
    last = found[-1].best if found else None
    told = "No trial finished." if last is None else f"After {len(found)} trials the best loss is {last:.4f} nats."
    title = f"Best selecting loss after so many trials: {view.plan.entry} on {view.task}"
    chart = plot(title, told, Axis("trials"), Axis("best selecting loss (nats per token)"), drawn, number)
    return chart and chart + legend(drawn)


def sweep_chart(view: TuningView, number: str) -> Markup:
    """Return the selecting loss over the sweep's learning rates; a rate that failed stands at the top."""
    losses = [loss for _, loss in view.sweep if loss is not None]
    if not losses:
        return Markup("")
    drawn = [Series("selecting loss", view.sweep, "line", 0, dots=True)]
    top = max(losses)
    failed = [(rate, top) for rate, loss in view.sweep if loss is None]
    if failed:
        drawn.append(Series("no seed or not every seed finished", failed, "dots", 4))
    best = min((loss, rate) for rate, loss in view.sweep if loss is not None)
    told = f"The best of {len(view.sweep)} learning rates is {best[1]:g}, at {best[0]:.4f} nats."
    ticks = tuple((rate, f"{short(rate)}") for rate, _ in view.sweep)
    title = f"Selecting loss over learning rates: {view.plan.entry} on {view.task}"
    x, y = Axis("learning rate", log=True, ticks=ticks), Axis("selecting loss (nats per token)")
    return plot(title, told, x, y, drawn, number) + legend(drawn)
