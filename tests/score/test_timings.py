"""Step times measured against the reference take the place of the runs' own clocks, and a changed file is refused."""

import json

import pytest
from planned import TASK

from bench.errors import BenchError
from bench.record import Machine
from bench.score.cells import select
from bench.score.evidence import costs_of, time_notes, timings_of
from bench.timings import read_timing, read_timings, timing_path, write_timing

MACHINE = Machine(processor="a", instructions="b", threads=1, compiler=None, compiled=False, switches={}, lock="0" * 64)


@pytest.fixture
def write(tmp_path):
    def build(entry, *ratios, seconds=0.2, machine=MACHINE, code="0" * 64, peaks=None):
        path = timing_path(tmp_path, "nano", entry, "bf16", machine.kind)
        turns = [{"reference": [seconds, seconds], "entry": [seconds * ratio, seconds * ratio]} for ratio in ratios]
        write_timing(
            path,
            {"task": "nano", "task_digest": TASK.digest, "mode": "bf16", "entry": entry, "entry_digest": code,
             "reference": "adamw-ref", "reference_digest": "0" * 64, "machine": machine.model_dump(mode="json"),
             "who": "somebody", "steps": 8, "turns": turns, "canary": [1.0, 1.0], "device_peak_bytes": peaks},
        )  # fmt: skip
        return path

    return build


def test_a_timing_is_the_median_of_its_turns_and_says_how_far_they_lie_apart(write):
    found = read_timing(write("muon", 1.3, 1.1, 1.2))
    assert found.ratio == pytest.approx(1.2) and found.ends == pytest.approx((1.1, 1.3))
    assert found.reference_seconds == 0.2


def test_a_timing_changed_by_hand_is_refused(write):
    path = write("muon", 1.3)
    facts = json.loads(path.read_text())
    facts["turns"][0]["entry"] = [0.1, 0.1]
    path.write_text(json.dumps(facts))
    with pytest.raises(BenchError, match="changed after it was written"):
        read_timing(path)


def test_only_timings_of_this_version_of_the_task_are_read(write, tmp_path):
    write("muon", 1.1)
    assert [timing.entry for timing in read_timings(tmp_path, "nano", TASK.digest)] == ["muon"]
    assert read_timings(tmp_path, "nano", "1" * 64) == [] and read_timings(tmp_path, "other", TASK.digest) == []


def test_timings_take_the_place_of_the_runs_own_clocks_and_serve_a_placebo_too(write, make_row):
    names = ("adamw-ref", "muon", "muon@1", "soap")
    rows = [make_row(name, task=TASK, name="nano") for name in names]
    chosen = select(rows, TASK.digest, "bf16", "tuned", "adamw-ref", None)
    timings = [read_timing(write("muon", 1.1))]
    costs = costs_of([], chosen, TASK, "adamw-ref", set(), {"muon": 4.0, "adamw-ref": 8.0}, timings)
    seconds = {name: costs[name].seconds_per_token for name in names}
    assert seconds == pytest.approx({"adamw-ref": 0.2 / 2048, "muon": 0.22 / 2048, "muon@1": 0.22 / 2048, "soap": None})
    assert costs["adamw-ref"].memory_bytes - costs["muon"].memory_bytes == 4 * TASK.parameters
    assert costs["soap"].memory_bytes is None
    assert time_notes(costs, timings) == [
        "step times were measured against adamw-ref's, interleaved, on a", "not timed: soap",
    ]  # fmt: skip
    assert "indicative only" in time_notes(costs_of([], chosen, TASK, "adamw-ref", set()), [])[0]


def test_timings_of_other_code_are_left_out_and_named(write, make_row):
    rows = [make_row(name, task=TASK, name="nano")._replace(entry_digest="0" * 64) for name in ("adamw-ref", "muon")]
    rows += [make_row("soap", task=TASK, name="nano")]
    chosen = select(rows, TASK.digest, "bf16", "tuned", "adamw-ref", None)
    timings = [read_timing(write(name, 1.1)) for name in ("muon", "soap", "sgd")]
    held, said = timings_of(timings, "bf16", chosen, "adamw-ref")
    assert [timing.entry for timing in held] == ["muon"]
    assert said == ["left out: timings of soap, of other code than the records' or against other code"]
    assert timings_of(timings, "qat-int8", chosen, "adamw-ref") == ([], [])
    newer = select([rows[0]._replace(entry_digest="1" * 64), rows[1]], TASK.digest, "bf16", "tuned", "adamw-ref", None)
    assert timings_of(timings, "bf16", newer, "adamw-ref")[0] == []


def test_peak_memory_of_a_device_is_said_where_it_was_measured(write):
    timings = [read_timing(write("muon", 1.1, peaks=(1000, 900)))]
    assert "peak memory of the device over adamw-ref's, measured with the step times: muon 0.90" in time_notes(
        {}, timings
    )


def test_timings_are_of_one_machine_the_boards_where_there_are_any(write, make_row):
    rows = [make_row(name, task=TASK, name="nano")._replace(entry_digest="0" * 64) for name in ("adamw-ref", "muon")]
    other = MACHINE.model_copy(update={"processor": "b"})
    timings = [read_timing(write("muon", 1.1)), read_timing(write("muon", 1.6, machine=other))]
    for kind, ratio, left in ((MACHINE.kind, 1.1, "b"), (other.kind, 1.6, "a"), ("0" * 64, None, None)):
        mine = [row._replace(machine_kind=kind) for row in rows]
        chosen = select(mine, TASK.digest, "bf16", "tuned", "adamw-ref", None)
        for order in (timings, timings[::-1]):
            (held,), (said,) = timings_of(order, "bf16", chosen, "adamw-ref")
            assert ratio is None or held.ratio == pytest.approx(ratio)
            assert held == timings_of(timings, "bf16", chosen, "adamw-ref")[0][0]
            assert said.startswith("left out: timings of muon on ") and said.endswith(
                "another machine than the others'"
            )
            assert left is None or f" on {left}, " in said
