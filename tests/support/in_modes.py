"""A reference and three entries on nano, rounded and trained in modes, as tables of modes are made of."""

from types import SimpleNamespace

from planned import TASK

from bench.mode import read_mode

REF = TASK.reference
MEANS = {0.25: 2.35, 0.5: 2.1, 1.0: 1.9, 1.5: 1.8, 2.0: 1.74, 4.0: 1.63}
ENTRIES = {"muon": {1.0: 1.72, 2.0: 1.65}, "soap": {1.0: 1.76, 2.0: 1.68}, "lion": {1.0: 2.0, 2.0: 1.85}}
EXTRA = {REF: 0.0, "muon": 0.02, "soap": 0.08, "lion": -0.001}  # degradation beyond what a loss explains
MODE = "ptq-w4"


def degradation(entry, loss, seed):
    return 0.1 + (2.4 - loss) / 20 + EXTRA[entry] + (seed - 1) / 500


def tails(entry):
    return SimpleNamespace(
        max_over_mean=10 + EXTRA[entry] * 50, max_over_median=None, kurtosis=1.0, feature_kurtosis=2.0
    )


def child(row, digest=None, crossings=()):
    lost = degradation(row.entry, row.score_loss, row.seed)
    diagnosis = SimpleNamespace(weights=tails(row.entry), activations=tails(row.entry), error=EXTRA[row.entry] + 0.5)
    measured = SimpleNamespace(
        mode_digest=digest or read_mode(MODE).digest, loss=row.score_loss + lost, degradation=lost,
        diagnosis=diagnosis, fallen_back=None,
    )  # fmt: skip
    return SimpleNamespace(modes={MODE: measured}, crossings=crossings, failed={})


def crossing_of(row, lost, digest=None):
    """Return what was measured where a run's curve passed a loss of 2 nats."""
    rounded = SimpleNamespace(degradation=lost, loss=1.95 + lost, mode_digest=digest or read_mode(MODE).digest)
    return SimpleNamespace(threshold=2.0, tokens=600_000, float_loss=1.95, modes={MODE: rounded})


def trained(rows, mode="qat-int8", budgets=(0.25, 0.5, 1.0, 2.0), cost=0.05):
    """Return the twins of rows that were trained in a mode."""
    return [
        row._replace(
            mode=mode, mode_digest=read_mode(mode).digest, run_id=f"{row.run_id[:-4]}qat0",
            score_loss=row.score_loss + cost,
        )
        for row in rows if row.budget in budgets
    ]  # fmt: skip


def row_of(table, entry, budget, mode=MODE):
    return next(row for row in table.rows[mode] if (row.cell.entry, row.cell.budget) == (entry, budget))


def runs(make_row):
    """Return the runs in bf16, three seeds each."""
    found = []
    for entry, means in {REF: MEANS, **ENTRIES}.items():
        for budget, mean in means.items():
            for seed in range(3):
                loss = mean + (seed - 1) / 400
                found.append(make_row(entry, budget, seed, loss, task=TASK, name="nano")._replace(epochs=0.5))
    return found
