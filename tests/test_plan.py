"""Plans: what they hold by the rules of the protocol, and that nothing can be changed after they are written."""

import json
import re
import shutil
import sys

import pytest
from planned import KIND, TASK, bowl, entry_at, plan_of, searched, yardstick
from small import ROOT

from bench.cli import planning
from bench.cli.main import main
from bench.entry import WARMUP, Entry, Range, find_entries
from bench.errors import BenchError
from bench.mode import modes_named
from bench.plan import (
    TUNING_SEEDS,
    WARMUPS,
    Plan,
    add_modes,
    add_rungs,
    all_plans,
    find_plans,
    held_values,
    look_at,
    make_plan,
    moved_values,
    plan_path,
    read_plan,
    space_of,
    write_plan,
)
from bench.submission.rules import as_of

PINNED = "635bbd88804b2090f0694a7939c95ef0529ebaae0cccbb178e90187a65216aca"


def scoring_seeds(plan: Plan) -> set[int]:
    return {seed for seeds in plan.rungs.values() for seed in seeds}


def test_a_plan_is_written_once_and_read_back(tmp_path):
    plan = plan_of("muon")
    path = write_plan(tmp_path, plan)
    assert path == plan_path(tmp_path, plan) and read_plan(path) == plan
    assert json.loads(path.read_text())["schema"] == 1 and write_plan(tmp_path, plan) == path
    assert path.parent.name == "nano" and path.stem == f"muon-{plan.digest[:16]}"


def test_the_form_of_a_plan_does_not_change():
    """Pinned: another digest of the same plan would orphan its ledger and its records."""
    space = {"lr": Range(default=0.02, low=0.0025, high=0.16, scale="log")}
    digests = dict.fromkeys(("task_digest", "entry_digest", "yardstick", "machine_kind"), "0" * 64)
    given = {"fixed": {"momentum": 0.95}, "space": space, "rungs": {"1x": (0, 1, 2)}, "declared_warmup": 0.1}
    assert plan_of("muon").model_copy(update={**digests, **given}).digest == PINNED


WRAPPERS = [entry for entry in find_entries(ROOT / "baselines") if entry.wrapped]


@pytest.mark.parametrize("entry", WRAPPERS, ids=lambda entry: entry.name)
def test_a_wrapper_is_planned_with_the_values_of_what_it_wraps(entry):
    """Each of its trials names every value that build() takes, the wrapped entry's among them."""
    plan = make_plan("nano", TASK, entry, KIND, yardstick())
    tried, tuned = searched(plan, bowl(plan.space["lr"].default))
    for values in [wanted.values for wanted, _ in tried if wanted.stage != "transfer"] + list(tuned.values()):
        assert set(values) == set(entry.defaults)
    assert set(entry.wrapped.defaults) - {WARMUP} <= {*plan.fixed, *plan.space} and moved_values(plan, entry) == []


def test_an_entry_that_wraps_nothing_holds_its_fixed_values_alone():
    for name in ("adamw", "muon", "adamw-hybrid"):
        assert held_values(entry_at(name)) == entry_at(name).facts.fixed


def test_a_plan_changed_after_it_was_written_is_refused(tmp_path):
    path = write_plan(tmp_path, plan_of("muon"))
    path.write_text(path.read_text().replace('"sobol": 6', '"sobol": 12'))
    with pytest.raises(BenchError, match="was changed after it was written"):
        read_plan(path)
    with pytest.raises(BenchError, match="was changed after it was written"):
        all_plans(tmp_path, "nano")


def test_entries_run_the_compared_rungs_and_the_yardstick_its_ladder():
    own, entry = yardstick(), plan_of("muon")
    assert set(own.ladder) == set(TASK.budget.rungs) and set(entry.ladder) == set(TASK.budget.compared)
    assert {rung: len(seeds) for rung, seeds in own.ladder.items()}[1.0] == 10
    assert {len(seeds) for rung, seeds in own.ladder.items() if rung != 1.0} == {5}
    assert {len(seeds) for seeds in entry.ladder.values()} == {3}
    assert own.tuning.rung == entry.tuning.rung == TASK.budget.compared[0]
    assert own.yardstick is None and entry.yardstick == own.digest
    assert own.tracks == ("tuned",) and entry.tracks == ("tuned", "transfer")
    assert space_of(entry) == ("lr", "weight_decay", "warmup_fraction") and entry.warmups == WARMUPS


@pytest.mark.parametrize("make", [yardstick, plan_of, lambda: plan_of("muon", 3)])
def test_tuning_seeds_are_never_scoring_seeds(make):
    plan = make()
    assert not scoring_seeds(plan) & set(plan.tuning.seeds)
    assert min(plan.tuning.seeds) >= TUNING_SEEDS > max(scoring_seeds(plan))


def test_a_placebo_is_its_twin_with_another_scramble_and_other_tuning_seeds():
    twin, placebos = plan_of("muon"), [plan_of("muon", number) for number in (1, 2, 3)]
    seeds = [seed for plan in (twin, *placebos) for seed in plan.tuning.seeds]
    assert len(set(seeds)) == len(seeds)
    assert [plan.tuning.scramble for plan in (twin, *placebos)] == [0, 1, 2, 3]
    for number, plan in enumerate(placebos, 1):
        assert (plan.entry, plan.twin) == (f"muon@{number}", "muon")
        changed = {"entry", "tuning", "tracks"}
        assert plan.model_dump(exclude=changed) == twin.model_dump(exclude=changed) and plan.tracks == ("tuned",)
        assert plan.tuning.sweep == twin.tuning.sweep and plan.tuning.sobol == twin.tuning.sobol


def test_three_looks_at_most_and_their_seeds_are_disjoint(tmp_path):
    looks = [plan_of("muon")]
    for _ in range(2):
        looks.append(plan_of("muon", after=looks[-1]))
    assert [plan.look for plan in looks] == [1, 2, 3] and looks[2].after == looks[1].digest
    seeds = [seed for plan in looks for seed in plan.ladder[1.0]]
    assert seeds == list(range(9))
    with pytest.raises(BenchError, match="muon has had its 3 looks"):
        plan_of("muon", after=looks[2])
    for plan in reversed(looks):
        write_plan(tmp_path, plan)
    assert find_plans(tmp_path, "nano", "muon") == looks == all_plans(tmp_path, "nano")


def modes_of(plan: Plan) -> dict[str, set[tuple[float, int]]]:
    return {mode: {(rung, seed) for _, m, rung, seed in plan.runs() if m == mode} for mode in plan.modes}


def test_a_look_at_another_version_of_the_task_is_none_at_this(tmp_path):
    own = yardstick()
    old = own.model_copy(update={"task_digest": "0" * 64})
    for plan in (own, old, old.model_copy(update={"look": 2, "after": old.digest})):
        write_plan(tmp_path, plan)
    assert look_at(own.entry, "nano", TASK, tmp_path) == 1
    write_plan(tmp_path, own.model_copy(update={"look": 2, "after": own.digest}))
    assert look_at(own.entry, "nano", TASK, tmp_path) == 2


def test_a_look_needs_the_runs_that_it_looks_at(tmp_path):
    plan = plan_of("muon")
    with pytest.raises(BenchError, match=f"has no record of {len(set(plan.runs()))} of its runs yet"):
        planning._refuse_unmade(plan, tmp_path / "records" / "nano")


def test_modes_train_at_the_tuning_rung_and_the_yardstick_on_a_short_ladder():
    named = modes_named("standard")
    entry = make_plan("nano", TASK, entry_at("muon"), KIND, yardstick(), modes=named)
    own = make_plan("nano", TASK, entry_at("adamw-ref"), KIND, None, modes=named)
    assert entry.training_modes == own.training_modes == ("qat-int8", "qat-w4a4")
    assert entry.after_modes == tuple(name for name in named if name.startswith("ptq-")) and len(entry.after_modes) == 9
    assert modes_of(entry)["qat-w4a4"] == {(1.0, seed) for seed in (0, 1, 2)} and modes_of(entry)["ptq-w4"] == set()
    assert modes_of(own)["qat-int8"] == {(r, seed) for r in (0.25, 0.5, 1.0, 1.5, 2.0) for seed in (0, 1, 2)}
    for plan in (entry, own):
        tracks = {mode: {track for track, m, _, _ in plan.runs() if m == mode} for mode in plan.modes}
        assert tracks["bf16"] == set(plan.tracks) and tracks["qat-w4a4"] == {"tuned"}
        assert modes_of(plan)["qat-w4a4"] <= modes_of(plan)["bf16"]  # each has its twin in float
    assert make_plan("nano", TASK, entry_at("adamw"), KIND, yardstick(), 1, modes=named).modes == ("bf16",)


def test_added_modes_are_no_look_and_lie_behind_the_plan_they_are_added_to(tmp_path):
    first = plan_of("muon")
    second, added = plan_of("muon", after=first), add_modes(first, ("qat-int8", "ptq-w4"), "adamw-ref")
    assert (added.after, added.look, added.adds_modes, first.adds_modes) == (first.digest, 1, True, False)
    assert set(added.runs()) == {("tuned", "qat-int8", 1.0, seed) for seed in (0, 1, 2)}
    for plan in (second, added, first):
        assert read_plan(write_plan(tmp_path, plan)) == plan
    assert find_plans(tmp_path, "nano", "muon") == [first, added, second]


def longer(task=TASK, rungs=(16.0,), compared=()):
    """Return the task with a longer ladder; its digest is the same."""
    ladder, common = (*task.budget.rungs, *rungs), (*task.budget.compared, *compared)
    budget = task.budget.model_copy(update={"rungs": ladder, "compared": common})
    return task.model_copy(update={"budget": budget})


def test_a_ladder_that_was_extended_adds_a_plan_of_the_new_rungs_and_no_look(tmp_path):
    task = longer(rungs=(16.0,), compared=(8.0,))
    assert task.digest == TASK.digest and add_rungs([yardstick()], TASK) is add_rungs([plan_of("muon")], TASK) is None
    own, first = yardstick(), plan_of("muon")
    extended = add_rungs([own], task)
    assert extended.ladder == {16.0: tuple(range(5))} and (extended.after, extended.look) == (own.digest, 1)
    assert extended.tuning.refined == own.tuning.refined == (0.25, 0.5, 1.0)
    below = add_rungs([own], longer(rungs=(0.75,)))  # where the yardstick is to be interior too (protocol B)
    assert below.ladder == {0.75: tuple(range(5))} and below.tuning.refined == (0.25, 0.5, 0.75, 1.0)
    second = plan_of("muon", after=first)
    both = add_rungs([first, add_modes(first, ("ptq-w4",), "adamw-ref"), second], task)
    assert both.ladder == {8.0: tuple(range(6))} and (both.after, both.look) == (second.digest, 2)
    assert set(both.runs()) == {(track, "bf16", 8.0, seed) for track in both.tracks for seed in range(6)}
    assert add_rungs([first, second, both], task) is None and add_modes(both, ("ptq-w4",), "x").adds_rungs is False
    third = make_plan("nano", task, entry_at("muon"), KIND, own, after=both)
    assert third.look == 3 and not {seed for seeds in third.rungs.values() for seed in seeds} & set(range(6))
    for plan in (third, both, second, first):
        write_plan(tmp_path, plan)
    assert find_plans(tmp_path, "nano", "muon") == [first, second, both, third]
    late = make_plan("nano", task, entry_at("adamw-ref"), KIND, None, after=extended)
    assert set(late.rungs["1x"]) == set(range(10, 20))


def test_a_plan_is_held_to_the_ladder_that_it_was_written_for():
    """A first plan stands where a later one of its entry adds the rungs, and lacks them where none does."""
    first, task = plan_of("muon"), longer(compared=(8.0,))
    added = add_rungs([first], task)
    known = {plan.digest: plan for plan in (first, added)}
    assert as_of(task, first, known).budget.compared == TASK.budget.compared
    assert as_of(task, first, {first.digest: first}) == task == as_of(task, added, known)


def test_bench_plan_writes_what_the_ladder_was_extended_by(tmp_path, monkeypatch, capsys):
    text = (ROOT / "tasks" / "nano.toml").read_text()
    path = tmp_path / "nano.toml"
    path.write_text(re.sub(r"(?m)^(rungs\s*= \[.*)\]", r"\1, 16.0]", text))
    monkeypatch.chdir(tmp_path)
    write_plan(tmp_path / "plans", yardstick())
    entry = ROOT / "baselines" / "adamw" / "adamw-ref.toml"
    words = ["bench", "plan", path, entry, "--leaderboard", tmp_path, "--baselines", ROOT / "baselines"]
    for _ in range(2):  # and a second time nothing more
        monkeypatch.setattr(sys, "argv", list(map(str, words)))
        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code
        first, added = find_plans(tmp_path / "plans", "nano", "adamw-ref")
        assert first == yardstick() and set(added.ladder) == {16.0} and added.adds_rungs
    tokens = 2 * 3 * TASK.tokens(16.0)  # two seeds of three learning rates
    assert f"tuning: {tokens:,} tokens or more" in capsys.readouterr().out


def test_plans_that_were_published_hold():
    for path in (ROOT / "leaderboard" / "plans").rglob("*.json"):
        plan = read_plan(path)
        assert set(plan.runs()) and plan_path(ROOT / "leaderboard" / "plans", plan) == path


def test_plans_of_names_that_begin_alike_are_told_apart(tmp_path):
    for name in ("adamw", "adamw-hybrid"):
        write_plan(tmp_path, plan_of(name))
    write_plan(tmp_path, plan_of("adamw", 1))
    assert [plan.entry for plan in find_plans(tmp_path, "nano", "adamw")] == ["adamw"]
    assert [plan.entry for plan in all_plans(tmp_path, "nano")] == ["adamw", "adamw-hybrid", "adamw@1"]
    assert find_plans(tmp_path, "nano", "muon") == all_plans(tmp_path / "none", "nano") == []


def test_a_plan_needs_a_yardstick_and_a_learning_rate():
    with pytest.raises(BenchError, match="the yardstick adamw-ref has no tuned values on this task"):
        make_plan("nano", TASK, entry_at("muon"), KIND, None)
    older = yardstick().model_copy(update={"task_digest": "0" * 64})
    with pytest.raises(BenchError, match="are of another version of it"):
        make_plan("nano", TASK, entry_at("muon"), KIND, older)
    with pytest.raises(BenchError, match=r"a plan needs \[search.lr\]"):
        make_plan("nano", TASK, entry_at("frozen-hidden"), KIND, yardstick())


def copied(folder, change) -> Entry:
    home = shutil.copytree(ROOT / "baselines" / "adamw", folder / "adamw")
    path = home / "adamw-ref.toml"
    text = path.read_text()
    path.write_text(change(text))
    assert path.read_text() != text
    return Entry(path)


MISTAKES = {
    "an empty range": (lambda t: t.replace("high    = 0.999", "high    = 0.9"), "range 0.9..0.9 is empty"),
    "a default outside": (lambda t: t.replace("high    = 3e-2", "high    = 1e-3"), "default 0.003 lies outside"),
    "a log range from 0": (lambda t: t.replace("low     = 0.125", "low     = 0"), "a log range cannot start at 0"),
    "an unknown hyperparameter": (lambda t: t.replace("search.beta2", "search.beta3"), "hyperparameter beta2"),
    "a warm-up to search": (lambda t: t.replace("search.beta2", "search.warmup_fraction"), "is the harness's"),
    "a name of the harness's": (lambda t: t.replace("search.beta2", "search.batch_factor"), "is the harness's name"),
    "a fixed one too": (lambda t: t.replace("beta1          = 0.9", "beta2 = 0.9"), "beta2 is both fixed and searched"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_space_that_cannot_be_searched_is_one_line(tmp_path, mistake):
    change, said = MISTAKES[mistake]
    with pytest.raises(BenchError, match=said) as caught:
        copied(tmp_path, change)
    assert "\n" not in caught.value.what


def test_the_yardsticks_warm_up_is_one_of_those_searched(tmp_path):
    odd = copied(tmp_path, lambda text: text.replace("warmup_fraction = 0.5", "warmup_fraction = 0.3"))
    with pytest.raises(BenchError, match=r"warm-up 0\.3 is none of those searched"):
        make_plan("nano", TASK, odd, KIND, None)
