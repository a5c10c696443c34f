"""The search: where it goes on losses that are a formula, and that it is a function of plan and ledger alone."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planned import STEPS, TASK, bowl, key, plan_of, searched, trial_run, with_tuning, write_trials, yardstick
from scipy.stats import qmc

from bench.entry import BATCH, MODE, WARMUP
from bench.errors import BenchError
from bench.ledger import Trial
from bench.plan import WARMUPS, add_modes
from bench.trials import state_of
from bench.tuning import Configuration, at_other_length, at_other_rate, scrambled, vertex

PINNED = [[0.093996625, 0.209306716, 0.914917789], [0.593996625, 0.709306716, 0.414917789]]
PINNED_OF_A_PLACEBO = [0.443435458, 0.672526899]


@pytest.mark.parametrize("lr", [1e-4, 1e-3, 3e-3, 4e-3, 0.1])
@pytest.mark.parametrize("make", [plan_of, yardstick], ids=["entry", "yardstick"])
def test_the_search_finds_the_region_of_the_optimum(make, lr):
    plan = make()
    tried, tuned = searched(plan, bowl(lr))
    assert set(tuned) == set(plan.ladder)
    for rung, values in tuned.items():
        assert abs(math.log2(values["lr"] / lr)) < (1.1 if rung == plan.tuning.rung else 0.1), rung
        assert values[WARMUP] in WARMUPS and values["beta1"] == 0.9
    worst = max(loss for wanted, loss in tried if wanted.stage in ("sweep", "sobol"))
    assert bowl(lr)(next(w for w, _ in tried if w.values == tuned[plan.tuning.rung])) < worst


def test_an_entry_has_six_learning_rates_and_six_points_and_three_a_rung():
    tried, _ = searched(plan_of(), bowl())
    stages = [wanted.stage for wanted, _ in tried]
    assert {stage: stages.count(stage) for stage in stages} == {"sweep": 6, "sobol": 6, "rung": 6, "transfer": 2}
    rates = [wanted.values["lr"] for wanted, _ in tried[:6]]
    assert rates == [3e-3 * 2.0**k for k in range(-3, 3)] and rates[-1] / rates[0] == 32
    declared = {"beta1": 0.9, "eps": 1e-8, "rest_lr_factor": 1.0, "beta2": 0.95, "weight_decay": 0.1, WARMUP: 0.5}
    assert all({**wanted.values, "lr": 0} == {**declared, "lr": 0} for wanted, _ in tried[:6])
    best = min(tried[:6], key=lambda pair: pair[1])[0].values["lr"]
    for wanted, _ in tried[6:12]:
        assert best / 1.7001 <= wanted.values["lr"] <= best * 1.7001
        assert 0.9 <= wanted.values["beta2"] <= 0.999 and 0 <= wanted.values["weight_decay"] <= 1
    assert [wanted.rung for wanted, _ in tried[12:]] == [2.0] * 3 + [4.0] * 3 + [1.0] * 2


def test_the_yardstick_has_at_least_four_times_an_entrys_trials_and_two_seeds():
    entry, own = plan_of(), yardstick()
    at_rung = [len([w for w, _ in searched(plan, bowl())[0] if w.rung == 1 and w.stage not in ("transfer", "batch")])
               for plan in (entry, own)]  # fmt: skip
    assert at_rung[1] >= 4 * at_rung[0] - 6 and len(own.tuning.seeds) == 2 * len(entry.tuning.seeds)
    assert at_rung[1] * len(own.tuning.seeds) >= 4 * at_rung[0]


@pytest.mark.parametrize("octaves", [-6, -4, 3, 5])
def test_a_best_end_is_gone_beyond_and_charged(octaves):
    best = 3e-3 * 2.0**octaves
    tried, tuned = searched(plan_of(), bowl(best))
    sweep = [wanted.values["lr"] for wanted, _ in tried if wanted.stage == "sweep"]
    beyond = abs(octaves) - 3 + 1 if octaves < 0 else octaves - 2 + 1
    assert len(sweep) == 6 + beyond
    assert sorted(sweep)[0 if octaves < 0 else -1] == pytest.approx(best * 2.0 ** (-1 if octaves < 0 else 1), rel=1e-3)
    assert abs(math.log2(tuned[1.0]["lr"] / best)) < 1


def test_an_optimum_that_is_nowhere_ends_the_sweep():
    tried, _ = searched(plan_of(), lambda wanted: -math.log(wanted.values.get("lr", 1.0)))
    assert len([w for w, _ in tried if w.stage == "sweep"]) == 12


def test_failed_trials_count_and_are_never_chosen():
    def cliff(wanted):
        return None if wanted.values.get("lr", 0) > 2e-3 else bowl(8e-3)(wanted)

    tried, tuned = searched(plan_of(), cliff)
    assert all(values["lr"] <= 2e-3 for values in tuned.values())
    assert len([w for w, _ in tried if w.stage == "sweep"]) == 6  # the best is below a failure, so no end
    assert any(loss is None for _, loss in tried)


def test_a_trial_with_one_failed_seed_has_failed():
    plan, batch = yardstick(), state_of(yardstick(), STEPS, []).waiting
    runs = (trial_run(plan, batch[0], 1000, 2.0), trial_run(plan, batch[0], 1001, None))
    assert _trial(batch[0], 0, runs).loss is None
    assert _trial(batch[0], 0, runs[:1]).loss == 2.0 and _trial(batch[0], 0, ()).loss is None


def test_a_sweep_that_fails_everywhere_goes_on_below_and_is_then_one_clear_error():
    tried = []
    with pytest.raises(BenchError, match=r"no trial finished of 12 learning rates from \S+ to \S+\n") as caught:
        searched(plan_of(), lambda wanted: tried.append(wanted.values["lr"]))
    assert "diverges everywhere" in caught.value.hint
    assert tried[6:] == pytest.approx([tried[0] / 2.0**k for k in range(1, 7)], rel=1e-3)


def test_a_rung_where_every_rate_fails_is_run_at_its_neighbours_values():
    tried, tuned = searched(plan_of(), lambda wanted: None if wanted.rung == 2 else bowl()(wanted))
    assert set(tuned) == {1.0, 2.0, 4.0} and len([w for w, _ in tried if w.rung == 2]) == 9
    assert tuned[2.0] == at_other_length(tuned[1.0], STEPS[1.0], STEPS[2.0])


def test_sobol_points_that_all_fail_leave_the_sweeps_best():
    tried, tuned = searched(plan_of(), lambda wanted: None if wanted.stage == "sobol" else bowl()(wanted))
    assert tuned[1.0] == min(tried[:6], key=lambda pair: pair[1])[0].values


def test_the_yardstick_is_moved_until_every_dimension_is_interior():
    plan, loss = yardstick(), bowl(3e-3, 0.1)
    tried, tuned = searched(with_tuning(plan, sobol=1), loss)
    refined = [wanted for wanted, _ in tried if wanted.stage == "refine"]
    assert {wanted.rung for wanted in refined} == {0.25, 0.5, 1.0}
    names = {name for w in refined for name in w.values if w.values[name] != tuned[w.rung][name]}
    assert names == {"lr", "beta2", "rest_lr_factor", "weight_decay", WARMUP}


def test_half_and_twice_the_batch_have_learning_rates_of_their_own_and_move_no_tuned_value():
    """Of the yardstick alone. A rate that does best at an end is gone beyond; decay keeps its timescale in steps."""

    def loss(wanted):
        return bowl(lr=3e-3 * wanted.values.get(BATCH, 1.0))(wanted)

    tried, tuned = searched(yardstick(), loss)
    study = [wanted.values for wanted, _ in tried if wanted.stage == "batch"]
    assert [wanted.stage for wanted, _ in tried[-len(study) :]] == ["batch"] * len(study)
    assert not any(BATCH in values for values in tuned.values())
    for factor in (0.5, 2.0):
        rates = sorted(values["lr"] for values in study if values[BATCH] == factor)
        assert rates[0] < 3e-3 * factor < rates[-1]
        for values in study:
            if values[BATCH] == factor:
                timescale = values["lr"] * values["weight_decay"] / factor
                assert timescale == pytest.approx(tuned[1.0]["lr"] * tuned[1.0]["weight_decay"], rel=0.01)
    assert not [wanted for wanted, _ in searched(plan_of(), bowl())[0] if wanted.stage == "batch"]


def test_a_decay_that_the_entry_holds_is_part_of_its_method_and_never_moved():
    """As of Scion, whose decay of 1 makes its step one of Frank and Wolfe."""
    plan = plan_of()
    held = {**plan.fixed, "weight_decay": 1.0}
    space = {name: dimension for name, dimension in plan.space.items() if name != "weight_decay"}
    plan = plan.model_copy(update={"fixed": held, "space": space})
    rates = {lr for wanted, _ in searched(plan, bowl())[0] if (lr := wanted.values.get("lr")) is not None}
    tried, tuned = searched(plan, bowl())
    assert len(rates) > 6 and {w.values["weight_decay"] for w, _ in tried if w.stage != "transfer"} == {1.0}
    assert {values["weight_decay"] for values in tuned.values()} == {1.0}


def test_no_trial_is_asked_for_twice_in_a_batch():
    def loss(wanted):
        return bowl()(wanted) + 0.3 * (wanted.values["weight_decay"] - 0.8 / wanted.rung) ** 2

    search = [wanted for wanted, _ in searched(yardstick(), loss)[0] if wanted.stage == "refine"]
    assert len({key(wanted) for wanted in search}) == len(search)


def test_weight_decay_keeps_its_timescale():
    values = {"lr": 1e-3, "weight_decay": 0.1, "beta2": 0.9}
    for other, steps in ((at_other_rate(values, 4.0), 500), (at_other_length(values, 500, 2000), 2000)):
        assert other["lr"] * other["weight_decay"] * steps == pytest.approx(1e-3 * 0.1 * 500)
        assert other["beta2"] == 0.9
    assert at_other_rate({"lr": 1.0}, 2.0) == {"lr": 2.0} and at_other_length({"lr": 1.0}, 1, 2) == {"lr": 1.0}
    for other in (at_other_rate(values, 4.0, held=values), at_other_length(values, 500, 2000, held=values)):
        assert other["weight_decay"] == 0.1
    _, tuned = searched(plan_of(), bowl())
    scales = [v["lr"] * v["weight_decay"] * STEPS[rung] for rung, v in tuned.items() if v["weight_decay"]]
    assert max(scales) / min(scales) < 1.01


def test_the_vertex_of_a_parabola_is_found():
    for true in (-0.5, -0.2, 0.0, 0.3, 0.5):
        assert vertex([(x - true) ** 2 * 0.7 + 5 for x in (-1, 0, 1)], 1) == pytest.approx(true)
    assert vertex([1.0, 2.0, 3.0], 0) == 0 == vertex([None, 1.0, 2.0], 1) == vertex([1.0, 1.0, 1.0], 1)
    _, tuned = searched(plan_of(), bowl(3.5e-3))
    assert tuned[4.0]["lr"] == pytest.approx(3.5e-3, rel=0.02)


def test_sobol_points_are_pinned():
    """A change here changes what every plan asks for, and orphans every ledger."""
    assert scrambled(2, 3, "0" * 64, 0) == [pytest.approx(point, abs=2e-9) for point in PINNED]
    assert scrambled(1, 2, "0" * 64, 3) == [pytest.approx(PINNED_OF_A_PLACEBO, abs=2e-9)]


@pytest.mark.parametrize("dimensions", [2, 5, 6])
@pytest.mark.parametrize("scramble", [0, 1, 3])
def test_sobol_points_cover_the_cube_evenly(dimensions, scramble):
    points = scrambled(32, dimensions, TASK.digest, scramble)
    for axis in zip(*points, strict=True):
        assert sorted(int(x * 32) for x in axis) == list(range(32))  # one in every thirty-second: a net
    uniform = sum(qmc.discrepancy(qmc.LatinHypercube(dimensions, seed=s).random(32)) for s in range(20)) / 20
    assert qmc.discrepancy(points) < uniform
    assert all(0 < x < 1 for point in points for x in point)


def test_points_depend_on_task_dimensions_and_placebo_alone():
    def points(plan):
        return [w for w, _ in searched(plan, lambda wanted: abs(math.log(wanted.values.get("lr", 1) / 3e-3)))[0]
                if w.stage == "sobol"]  # fmt: skip

    def units(plan):
        low = {name: (space.low, space.high) for name, space in plan.space.items() if name != "lr"}
        return [[round((w.values[n] - a) / (b - a), 3) for n, (a, b) in low.items()] for w in points(plan)]

    assert units(plan_of("adamw")) == units(plan_of("adamw-hybrid"))
    assert scrambled(6, 4, TASK.digest, 0) != scrambled(6, 4, "1" * 64, 0)
    assert [p[:2] for p in scrambled(6, 4, TASK.digest, 0)] != [p[:2] for p in scrambled(6, 3, TASK.digest, 0)]
    several = [units(plan_of("adamw", placebo)) for placebo in range(4)]
    assert all(several[i] != several[j] for i in range(4) for j in range(i))
    assert scrambled(8, 4, TASK.digest, 2)[:6] == scrambled(6, 4, TASK.digest, 2)


def _trial(wanted, number, runs):
    zero = "0" * 64
    return Trial(number=number, stage=wanted.stage, rung=wanted.rung, values=wanted.values, runs=runs, before=zero,
                 digest=zero)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(losses=st.lists(st.one_of(st.none(), st.floats(1, 5)), min_size=60, max_size=60), cut=st.integers(0, 60))
def test_the_next_trials_are_a_function_of_plan_and_ledger_at_every_prefix(losses, cut):
    plan, ledger, asked = plan_of(), [], []
    try:
        while len(ledger) < len(losses) and (waiting := state_of(plan, STEPS, ledger).waiting):
            wanted = waiting[0]
            asked.append(waiting)
            runs = tuple(trial_run(plan, wanted, seed, losses[len(ledger)]) for seed in plan.tuning.seeds)
            ledger.append(_trial(wanted, len(ledger), runs))
        asked.append(state_of(plan, STEPS, ledger).waiting)
    except BenchError as error:
        assert "no trial finished" in error.what
    place = min(cut, len(asked) - 1)
    assert state_of(plan, dict(STEPS), tuple(ledger[:place])).waiting == asked[place]
    if place:  # a batch is fixed when its first trial is: what is left of it does not depend on what came of them
        assert asked[place - 1][1:] in (asked[place], ())


def test_a_ledger_that_is_not_the_plans_is_refused():
    plan = plan_of()
    tried, _ = searched(plan, bowl())
    ledger = [_trial(w, n, tuple(trial_run(plan, w, seed, loss) for seed in plan.tuning.seeds))
              for n, (w, loss) in enumerate(tried)]  # fmt: skip
    assert state_of(plan, STEPS, ledger).tuned is not None
    with pytest.raises(BenchError, match="1 trials beyond the plan"):
        state_of(plan, STEPS, [*ledger, ledger[-1]])
    with pytest.raises(BenchError, match="trial 0 is not the one that the plan asks for"):
        state_of(plan, STEPS, ledger[1:] and [ledger[1].model_copy(update={"number": 0}), *ledger[2:]])
    other = ledger[3].model_copy(update={"values": {**ledger[3].values, "beta1": 0.8}})
    with pytest.raises(BenchError, match="trial 3 is not"):
        state_of(plan, STEPS, [*ledger[:3], other])
    with pytest.raises(BenchError, match="trial 0 is not"):  # another seed than the plan's
        state_of(plan, STEPS, [_trial(tried[0][0], 0, (trial_run(plan, tried[0][0], 7, 1.0),))])


def test_in_a_mode_the_better_of_two_learning_rates_is_picked_and_moved_alike_at_all_rungs(tmp_path):
    base = plan_of("muon").model_copy(update={"modes": ("bf16", "qat-int8", "qat-w4a4")})

    def loss(wanted: Configuration) -> float | None:
        mode, lr = wanted.values.get(MODE), wanted.values.get("lr", 0.0)
        return bowl()(wanted) if mode is None else None if mode == "qat-w4a4" else lr

    trials = write_trials(tmp_path / "ledger.jsonl", base, loss)
    state = state_of(base, STEPS, trials)
    assert [trial.values[MODE] for trial in trials[-4:]] == ["qat-int8"] * 2 + ["qat-w4a4"] * 2
    assert {trial.stage for trial in trials[-4:]} == {"mode"} and all(trial.rung == 1.0 for trial in trials[-4:])
    halved = {rung: at_other_rate(values, 0.5) for rung, values in state.tuned.items()}
    assert state.in_modes == {"qat-int8": halved, "qat-w4a4": state.tuned}  # nothing finished in the second
    assert all(values["lr"] == pytest.approx(state.tuned[r]["lr"] / 2, rel=1e-3) for r, values in halved.items())


def test_added_modes_start_from_what_the_plan_before_them_led_to(tmp_path):
    first = plan_of("muon")
    added = add_modes(first, ("qat-int8",), "adamw-ref")
    trials = write_trials(tmp_path / "first.jsonl", first, bowl())
    before = state_of(first, STEPS, trials)
    state = state_of(added, STEPS, [], before=before)
    assert [wanted.values for wanted in state.waiting] == [
        {**at_other_rate(before.tuned[1.0], factor), MODE: "qat-int8"} for factor in (0.5, 1.0)
    ]
    for waits in (None, state_of(first, STEPS, trials[:3])):
        with pytest.raises(BenchError, match="is not tuned"):
            state_of(added, STEPS, [], before=waits)
