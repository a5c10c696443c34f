"""The undertuned-baseline alarm: what raises it, and what five seeds make of it."""

import numpy as np
import pytest
from planned import TASK, plan_of, trials_of, yardstick

from bench.digest import digest_of
from bench.ledger import Study
from bench.score.alarm import Alarm, Verdict, alarm_note, alarms_of, judged, undertuned
from bench.score.cells import select

YARDSTICK = {1.0: [3.000, 3.002, 2.998, 3.001, 2.999], 2.0: [2.900, 2.902, 2.898]}  # s.d. 0.00173


def of(trials, entry="adamw"):
    return Study(plan_of(entry), tuple(trials))


def test_a_trial_well_below_the_yardstick_is_an_alarm():
    """One seed against five: a standard error of 0.00173 sqrt(1 + 1/5) = 0.0019."""
    ledgers = [of(trials_of([3.1, 2.9975, 2.995, None])), of(trials_of([2.99], rung=2.0), "adamw-hybrid")]
    (alarm,) = undertuned(ledgers, YARDSTICK, frozenset())
    assert (alarm.entry, alarm.number, alarm.rung, alarm.loss) == ("adamw", 2, 1.0, 2.995)
    assert alarm.yardstick == pytest.approx(3.0) and alarm.error == pytest.approx(0.0019, rel=0.01)


def test_the_yardsticks_own_values_and_other_tracks_are_no_alarm():
    low = trials_of([2.9])
    assert undertuned([Study(yardstick(), tuple(low))], YARDSTICK, frozenset({digest_of(low[0].values)})) == []
    assert len(undertuned([Study(yardstick(), tuple(low))], YARDSTICK, frozenset())) == 1
    assert undertuned([of(trials_of([2.9], "transfer"))], YARDSTICK, frozenset()) == []
    assert undertuned([of(trials_of([2.9], rung=4.0))], YARDSTICK, frozenset()) == []
    assert undertuned([of(low)], {1.0: [3.0]}, frozenset()) == []  # one seed: no noise is known


def test_equals_seldom_raise_an_alarm():
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(400):
        theirs = {rung: list(3 + 0.01 * rng.standard_normal(5)) for rung in (0.5, 1.0, 2.0, 4.0)}
        one = of(trials_of([3 + 0.01 * rng.standard_normal()]))
        found += len(undertuned([one], theirs, frozenset()))
    assert found / 400 < 0.06


@pytest.fixture
def chosen(make_row):
    """The yardstick's cells: at every rung and every loss five seeds with a standard deviation of 0.0016."""
    rows = [
        make_row("adamw-ref", rung, seed, loss + (seed - 2) / 1000, task=TASK, name="nano")
        for rung, loss in ((0.5, 3.1), (1.0, 3.0), (2.0, 2.9))
        for seed in range(5)
    ]
    return select(rows, TASK.digest, "bf16", "tuned", "adamw-ref", None)


def test_the_lowest_trial_of_each_rung_of_the_yardsticks_own_algorithm_is_looked_into(chosen):
    own, adamw, muon = yardstick(), plan_of("adamw"), plan_of("muon")
    low = tuple(trials_of([2.98, 2.97, 3.2]))
    (alarm,) = alarms_of([Study(own, ()), Study(adamw, low), Study(muon, low)], chosen, "adamw-ref")
    assert (alarm.entry, alarm.number) == ("adamw", 1)
    assert alarms_of([Study(own, ()), Study(muon, low)], chosen, "adamw-ref") == []
    again = plan_of("adamw", after=adamw)  # a second look has no trials, and hides none of the first's
    assert alarms_of([Study(own, ()), Study(adamw, low), Study(again, ())], chosen, "adamw-ref") == [alarm]


def test_a_control_of_the_yardsticks_algorithm_raises_no_alarm(chosen):
    """It does what the yardstick may not: another schedule is no better tuning of this one."""
    study = plan_of("adamw-cosine")
    assert study.control and study.algorithm == yardstick().algorithm
    low = tuple(trials_of([2.97]))
    assert alarms_of([Study(yardstick(), ()), Study(study, low)], chosen, "adamw-ref") == []
    assert alarms_of([Study(yardstick(), low)], chosen, "adamw-ref") != []


def test_a_trial_that_loses_is_said_to_end_above():
    note = alarm_note(Verdict(ALARM, 5, -0.05, 0.0076), "adamw-ref")
    assert note.startswith("no undertuned baseline: 5 seeds") and note.endswith(
        "end 0.0500 nats above adamw-ref, 6.6 standard errors"
    )


CODE = digest_of(["adamw", 0])  # of the rows' source
ALARM = Alarm("adamw", CODE, 1, 1.0, {"lr": 0.002}, 2.97, 3.0, 0.002)


class Read:
    """A record's inputs, as far as a verdict reads them."""

    def __init__(self, values):
        self.inputs = self
        self.values = values


@pytest.mark.parametrize(
    ("loss", "seeds", "holds"), [(2.99, 5, True), (2.999, 5, False), (2.9, 4, None), (2.9, 0, None)]
)
def test_five_seeds_at_the_trials_values_decide_by_two_standard_errors(chosen, make_row, loss, seeds, holds):
    rows = [
        make_row("adamw", 1.0, seed, loss + (seed - 2) / 1000, task=TASK, name="nano", track="declared")
        for seed in range(seeds)
    ]
    others = [
        make_row("adamw", 1.0, seed, 2.0, task=TASK, name="nano", track="declared", values=1) for seed in range(5, 9)
    ]
    changed = [row._replace(entry_digest="0" * 64, score_loss=1.0, seed=20 + row.seed) for row in rows]
    of = {row.run_id: Read({"lr": 0.002, "rest.lr": 1.0}) for row in rows}
    (verdict,) = judged(
        [ALARM], rows + others + changed, chosen, "adamw-ref", lambda row: of.get(row.run_id, Read({"lr": 0.004}))
    )
    assert verdict.seeds == seeds and verdict.holds is holds
    note = alarm_note(verdict, "adamw-ref")
    start = {
        True: "undertuned baseline: 5 seeds",
        False: "no undertuned baseline: 5 seeds",
        None: "undertuned baseline?",
    }
    assert note.startswith(start[holds])
    if holds is False:
        assert "end 0.0010 nats below adamw-ref, 1.0 standard errors" in note
        assert verdict.gap == pytest.approx(0.001) and verdict.error == pytest.approx(0.001581 * 0.4**0.5, rel=0.01)


@pytest.mark.parametrize("change", [{"machine_kind": "0" * 64}, {"mode": "qat-int8"}], ids=str)
def test_runs_elsewhere_or_in_a_mode_decide_nothing(chosen, make_row, change):
    """Five that end lower on another kind of machine, or rounded, say nothing of the yardstick's own five."""
    rows = [
        make_row("adamw", 1.0, seed, 2.9, task=TASK, name="nano", track="declared")._replace(**change)
        for seed in range(5)
    ]
    (verdict,) = judged([ALARM], rows, chosen, "adamw-ref", lambda row: Read({"lr": 0.002}))
    assert verdict == Verdict(ALARM, 0)


def test_without_noise_nothing_is_decided(make_row):
    rows = [make_row("adamw-ref", 1.0, 0, 3.0, task=TASK, name="nano")]
    lone = select(rows, TASK.digest, "bf16", "tuned", "adamw-ref", None)
    tried = [make_row("adamw", 1.0, seed, 2.0, task=TASK, name="nano", track="declared") for seed in range(5)]
    (verdict,) = judged([ALARM], tried, lone, "adamw-ref", lambda row: Read({"lr": 0.002}))
    assert verdict == Verdict(ALARM, 5) and verdict.holds is None
