"""What the yardstick's ledger says of itself: its batches, and what of it lies at an end of its range."""

import re

from planned import TASK, bowl, plan_of, write_trials, yardstick

from bench.entry import BATCH, WARMUP
from bench.ledger import Study
from bench.score.alarm import undertuned
from bench.score.yardstick import batches, end_notes

MUON = plan_of("muon")


def test_the_study_of_batches_is_said_and_is_no_alarm(tmp_path):
    def loss(wanted):
        return {0.5: 2.5, 2.0: 2.9}.get(wanted.values.get(BATCH), 2.8) + bowl()(wanted) / 1000

    own = yardstick()
    study = Study(own, tuple(write_trials(tmp_path / "ledger.jsonl", own, loss)))
    ((met, note),) = batches([study, Study(plan_of(), ())], TASK, own.entry)
    assert not met and note.startswith("protocol A8 is not met: the task's batch of 8 sequences is not adamw")
    said = re.findall(r"([\d.]+) at (\d+) \(the best of (\d+) trials\)", note)
    assert [float(loss) for loss, _, _ in said] == sorted(float(loss) for loss, _, _ in said)
    assert [size for _, size, _ in said] == ["4", "8", "16"]
    at_rung = [t for t in study.trials if t.rung == 1.0]  # no two batches' figures are the best of as many
    for (_, _, count), factor in zip(said, (0.5, 1.0, 2.0), strict=True):
        assert int(count) == sum(trial.values.get(BATCH, 1.0) == factor for trial in at_rung)
    assert int(said[1][2]) > 10 * int(said[0][2])
    assert not undertuned([study], {1.0: [2.79, 2.8, 2.81]}, frozenset())
    assert batches([Study(own, ())], TASK, own.entry) == []


def test_a_batch_that_is_the_best_is_said_to_be(tmp_path):
    own = yardstick()
    trials = write_trials(tmp_path / "ledger.jsonl", own, lambda w: abs(w.values.get(BATCH, 1.0) - 1.0) + bowl()(w))
    ((met, note),) = batches([Study(own, tuple(trials))], TASK, own.entry)
    assert met and note.startswith("the task's batch of 8 sequences is adamw")


def test_tuned_values_of_the_yardstick_at_an_end_of_their_range_are_said(tmp_path):
    """The warm-up and the weight decay are driven to an end each, and the others are not."""

    def loss(wanted):
        values = wanted.values
        if "lr" not in values:
            return 3.0
        return bowl()(wanted) - values[WARMUP] + 0.2 * values["weight_decay"]

    own = yardstick()
    study = Study(own, tuple(write_trials(tmp_path / "ledger.jsonl", own, loss)))
    (note,) = end_notes([study, Study(MUON, ())], TASK, own.entry)
    assert f"{WARMUP} 0.5 (highest) at {', '.join(own.rungs)}" in note
    assert "weight_decay 0 (lowest) at " in note and "beta2" not in note
    inner = Study(own, tuple(write_trials(tmp_path / "inner.jsonl", own, lambda w: bowl(3e-3, 0.1)(w) + away(w))))
    assert end_notes([inner], TASK, own.entry) == [] == end_notes([Study(own, ())], TASK, own.entry)


def away(wanted):
    """A loss that is lowest in the middle of every other dimension."""
    middle = {"weight_decay": 0.3, "beta2": 0.95, "rest_lr_factor": 1.0}
    return sum(10 * (wanted.values[name] - best) ** 2 for name, best in middle.items() if name in wanted.values)
