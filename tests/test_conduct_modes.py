"""A plan's modes carried out: trained in, its checkpoints measured in them, added later, stopped and gone on with."""

import gc
from dataclasses import replace

import pytest
from conducted import Here, Stopped, started
from planned import with_tuning
from typer.testing import CliRunner

from bench import conduct
from bench.children import quantized_path, read_quantized, write_crossing
from bench.cli.main import app
from bench.diagnosis import check_diagnosis, diagnosis_path
from bench.entry import MODE
from bench.errors import BenchError
from bench.evaluate import finished
from bench.evaluate.weights import kept
from bench.index import load_index
from bench.ledger import read_studies
from bench.lint import lint_paths
from bench.mode import read_mode
from bench.plan import add_modes, find_plans, write_plan
from bench.record import find_records, read_log, read_record
from bench.score import cells, evidence
from bench.score.evidence import departures, value_notes
from bench.submission.after import measured
from bench.submission.desk import Desk
from bench.task import read_task
from bench.tuned import read_tuned
from bench.tuning import MODE_FACTORS, at_other_rate

QAT, AFTER = "qat-w4a4-absmax", ("ptq-w4", "ptq-w4a4")
LOSSES = "common_losses = [5.0, 4.45, 0.1]"


@pytest.fixture(scope="module", autouse=True)
def _quick():
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def modes(tmp_path_factory):
    """A bench on which a yardstick was evaluated in float, then with modes added, stopped after every run of these."""
    bench = started(tmp_path_factory.mktemp("modes"))
    text = bench.task_path.read_text()
    bench.task_path.write_text(text.replace("version", f"{LOSSES}\nversion", 1))
    plan = with_tuning(bench.plan("adamw-ref"), seeds=(1000,)).model_copy(update={"rungs": {"1x": (0, 1)}})
    added = add_modes(plan, (QAT, *AFTER), "adamw-ref")
    for path in (bench.board / "plans").rglob("*.json"):
        path.unlink()
    for one in (plan, added):
        write_plan(bench.board / "plans", one)
    with pytest.raises(BenchError, match="is not tuned"):
        bench.conductor(added, Here()).evaluate()
    bench.conductor(plan, Here()).evaluate()
    held = {path.name for path in (bench.folder / "weights").iterdir()}
    stops = 0
    while True:
        try:
            bench.conductor(added, Here(most=1)).evaluate()
            break
        except Stopped:
            stops += 1
    return bench, plan, added, held, stops


def test_what_was_measured_stands_before_a_maintainer(modes):
    bench, plan, added, _, _ = modes
    desk = Desk(bench.folder, bench.folder, {}, [], set())
    found = {path.relative_to(bench.folder).as_posix(): read_record(path) for path in floats(bench, plan)}
    measured(desk, [plan, added], read_task(bench.task_path), found)
    assert len(found) == 2 and not desk.findings


def floats(bench, plan):
    """Return the paths of a plan's records."""
    return find_records([bench.board / "records" / "small" / plan.digest[:16]])


def test_all_that_was_added_is_made_and_nothing_else(modes):
    bench, plan, added, _, stops = modes
    assert set(bench.records(added)) == {("tuned", 1.0, 0), ("tuned", 1.0, 1)} and stops == 4
    assert {record.inputs.mode for record in bench.records(added).values()} == {QAT}
    assert {record.inputs.mode for record in bench.records(plan).values()} == {"bf16"}
    rows = load_index([bench.board / "records"], None)
    for one in (plan, added):
        found = departures(one, rows)
        assert (found.missing, found.extra) == ((), ())
    assert (added.after, added.look, added.rungs) == (plan.digest, plan.look, plan.rungs) and added.adds_modes
    engine = Here()
    for one in (plan, added):
        bench.conductor(one, engine).evaluate()
    assert engine.given == []


def test_a_mode_is_trained_at_the_float_values_with_the_better_of_two_learning_rates(modes):
    bench, plan, added, _, _ = modes
    found = read_tuned(bench.entry("adamw-ref"), "small", "adamw-ref")
    values, trials = found.tuned["bf16"]["1x"], bench.trials(added)
    assert [trial.stage for trial in trials] == ["mode", "mode"]
    assert [trial.values for trial in trials] == [{**at_other_rate(values, f), MODE: QAT} for f in MODE_FACTORS]
    best = min(trials, key=lambda trial: trial.loss)
    for record in bench.records(added).values():
        assert record.inputs.values == {k: v for k, v in best.values.items() if k != MODE}
        assert record.inputs.values == found.tuned[QAT]["1x"]
        assert record.facts.quantization.float_score_loss not in (None, record.score_loss)
    assert found.plan == plan.digest and found.added == {added.digest: trials[-1].digest}
    task, records = read_task(bench.task_path), [read_record(p) for p in find_records([bench.board / "records"])]
    studies = read_studies(bench.board, "small", plan.task_digest)
    assert value_notes(studies, records, task) == []
    forged = [r.model_copy(update={"inputs": r.inputs.model_copy(update={"values": {"lr": 1.0}})}) for r in records]
    assert len(value_notes(studies, forged, task)) == 2


def test_every_float_checkpoint_is_measured_once_and_then_goes(modes):
    bench, plan, added, held, _ = modes
    paths = floats(bench, plan)
    runs = {path.stem for path in paths}
    assert held == runs | {f"{run}@{loss}" for run in runs for loss in ("5", "4.45")}  # the curve never passed 0.1
    assert list((bench.folder / "weights").iterdir()) == []
    for path in paths:
        child = read_quantized(quantized_path(path))
        assert set(child.modes) == set(AFTER) and set(check_diagnosis(child, diagnosis_path(path)).modes) == set(AFTER)
        assert all(
            found.degradation == found.loss - found.quantization.float_score_loss for found in child.modes.values()
        )
    assert not any(quantized_path(path).exists() for path in floats(bench, added))
    assert sum("diagnoses of ptq-w4, ptq-w4a4" in line for line in lint_paths([bench.board / "records"])) == 2


def test_common_losses_are_measured_where_the_curve_first_passed_them(modes):
    bench, plan, _, _, _ = modes
    for path in floats(bench, plan):
        child, curve = read_quantized(quantized_path(path)), read_log(path, read_record(path)).curve
        assert [crossing.threshold for crossing in child.crossings] == [5.0, 4.45]
        for crossing in child.crossings:
            first = next(point for point in curve if point.loss <= crossing.threshold)
            assert (crossing.tokens, crossing.curve_loss) == (first.tokens, first.loss)
            assert set(crossing.modes) == set(AFTER) and crossing.float_loss != child.modes["ptq-w4"].loss
            assert {found.layers for found in crossing.modes.values()} == {7}
        assert len({child.weights, *(crossing.weights for crossing in child.crossings)}) == 3


def test_weights_that_are_gone_are_made_again_and_a_kill_loses_one_mode_alone(modes, monkeypatch):
    bench, plan, added, _, _ = modes
    path = floats(bench, plan)[0]
    child, before = quantized_path(path), read_quantized(quantized_path(path))
    child.unlink()
    diagnosis_path(path).unlink()
    written = []

    def killed(*facts):
        written.append(facts[3])
        if len(written) == 2:
            raise KeyboardInterrupt
        write(*facts)

    write = finished.write_quantized
    monkeypatch.setattr(finished, "write_quantized", killed)
    with pytest.raises(KeyboardInterrupt):
        bench.conductor(added, Here()).evaluate()
    assert written == [*AFTER] and kept(bench.folder / "weights", path.stem)
    bench.conductor(added, Here()).evaluate()
    assert written == [*AFTER, AFTER[1]] and not kept(bench.folder / "weights", path.stem)
    after = read_quantized(child)
    assert {name: found.loss for name, found in after.modes.items()} == {
        name: found.loss for name, found in before.modes.items()
    }
    assert after.crossings == before.crossings


def test_modes_measured_by_other_code_are_measured_again(modes, monkeypatch):
    bench, plan, _, _, _ = modes
    path = floats(bench, plan)[0]
    assert finished.unmeasured(path, AFTER) == []
    other = read_mode("ptq-w4").model_copy(update={"hadamard": 32})
    monkeypatch.setattr(finished, "read_mode", lambda name, kind=None: other if name == "ptq-w4" else read_mode(name))
    assert finished.unmeasured(path, AFTER) == ["ptq-w4"]


def test_a_run_of_another_version_of_its_mode_is_made_again_and_stands_on_no_board(modes, monkeypatch):
    bench, _, added, _, _ = modes
    rows = load_index([bench.board / "records"], None)
    other = read_mode(QAT).model_copy(update={"hadamard": 32})
    for module in (conduct, cells, evidence):
        monkeypatch.setattr(module, "read_mode", lambda name: other if name == QAT else read_mode(name))
    engine = Here(most=0)
    with pytest.raises(Stopped):
        bench.conductor(added, engine).ladder()
    assert [(job.mode, job.seed) for job in engine.given] == [(QAT, 0), (QAT, 1)]
    found = departures(added, rows)
    assert (len(found.missing), found.extra) == (2, ())
    with pytest.raises(BenchError, match="adamw-ref has no records in mode qat-w4a4-absmax"):
        cells.select(rows, added.task_digest, QAT, "tuned", "adamw-ref", None)


def test_common_losses_of_modes_that_are_asked_for_one_by_one_stay_beside_each_other(modes, tmp_path):
    bench, plan, _, _, _ = modes
    child = read_quantized(quantized_path(floats(bench, plan)[0]))
    crossing, path = child.crossings[0], tmp_path / f"{child.run_id}.quantized.json"
    for name in AFTER:
        only = crossing.model_copy(update={"modes": {name: crossing.modes[name]}})
        write_crossing(path, child.run_id, child.weights, only)
    assert read_quantized(path).crossings == (crossing,)
    write_crossing(path, child.run_id, child.weights, only.model_copy(update={"weights": child.weights}))
    (found,) = read_quantized(path).crossings
    assert set(found.modes) == {AFTER[-1]}


def test_a_run_that_is_missing_cannot_be_measured(modes, tmp_path):
    bench, _, added, _, _ = modes
    conductor = bench.conductor(added, Here())
    conductor.paths = replace(conductor.paths, places=replace(conductor.paths.places, records=tmp_path))
    with pytest.raises(BenchError, match="of which 2 runs have no record"):
        list(conductor._to_measure())


def test_modes_that_a_plan_lacks_are_added_once(modes, tmp_path):
    bench, plan, added, _, _ = modes
    board = tmp_path / "board"
    for one in (plan, added):
        write_plan(board / "plans", one)
    line = ["plan", str(bench.task_path), str(bench.entry("adamw-ref")), "--leaderboard", str(board)]
    line += ["--baselines", str(bench.folder / "baselines")]
    for _ in range(2):
        said = CliRunner().invoke(app, [*line, "--modes", f"{QAT},ptq-w4,ptq-w3"])
        assert said.exit_code == 0, said.output
        plans = find_plans(board / "plans", "small", "adamw-ref")  # its ladder is cut down: rungs are added too
        plans = [one for one in plans if one.after in (None, plan.digest) and not one.adds_rungs]
        assert [one.modes for one in plans] == [("bf16",), ("ptq-w3",), (QAT, *AFTER)]
        assert {one.after for one in plans} == {None, plan.digest} and {one.look for one in plans} == {1}
    assert "adds modes to the plan" in said.output and "on the checkpoints of 2 runs" in said.output
    said = CliRunner().invoke(app, [*line, "--modes", "ptq-w5"])
    assert "no mode ptq-w5; did you mean ptq-w4" in str(said.exception)
    said = CliRunner().invoke(app, [*line, "--placebo", "1", "--modes", "all"])
    assert "a placebo measures tuning noise, in bf16 alone" in str(said.exception)
