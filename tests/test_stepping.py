"""Steps timed against the reference: both arms train on, and a machine that changes its pace is refused."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from small import ADAMW, MUON, write_task

from bench.assemble import Request, assemble
from bench.entry import Entry
from bench.errors import BenchError
from bench.setting import Watch, settle
from bench.stepping import Arm, Load, canary, check_alone, check_canary, measure_steps
from bench.task import read_task
from bench.timings import Turn
from bench.train import Progress


@pytest.fixture
def measured(tmp_path, monkeypatch):
    def build(**asked):
        for check in ("check_canary", "check_alone"):  # tests run side by side
            monkeypatch.setattr(f"bench.stepping.{check}", lambda *seen: None)
        task = read_task(write_task(tmp_path))
        return measure_steps(
            "tiny", task, Entry(ADAMW), Entry(MUON), "bf16", tmp_path, Watch(), steps=4, turns=2, **asked
        )

    return build


def test_every_turn_times_the_reference_and_the_entry_twice(measured):
    setting, facts = measured()
    turns = [Turn.model_validate_json(str(turn).replace("'", '"')) for turn in facts["turns"]]
    assert len(turns) == 2 and all(min(*turn.reference, *turn.entry) > 0 for turn in turns)
    assert setting.inputs.entry == "muon" and facts["device_peak_bytes"] is None and min(facts["canary"]) > 0


def test_seconds_are_those_of_a_batch_of_the_task_s_tokens_for_who_reads_others_too(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.stepping.train", lambda parts, course, progress, clock, *_: read(progress, clock))
    task, lr = read_task(write_task(tmp_path)), Entry(ADAMW).values({})

    def read(progress, clock):
        progress.tokens += 3 * task.training.batch_tokens
        clock.seconds += 6.0

    request = Request("tiny", task, Entry(ADAMW), lr, "bf16", 1.0, "declared", 0)
    assembly = assemble(request, tmp_path, settle(request, Watch()).hardware)
    arm = Arm(assembly, Progress(curve=[{"tokens": 0}]), assembly.model.state_dict())
    assert arm.go(steps=1) == 2.0


def test_more_steps_than_the_longest_rung_has_are_refused(tmp_path):
    task = read_task(write_task(tmp_path))
    with pytest.raises(BenchError, match="more than the"):
        measure_steps("tiny", task, Entry(ADAMW), Entry(MUON), "bf16", tmp_path, Watch(), steps=10**6)


@pytest.mark.parametrize(("after", "fine"), [(1.02, True), (0.98, True), (1.05, False), (0.9, False)])
def test_a_canary_that_moves_by_more_than_three_percent_refuses_the_measurement(after, fine):
    if fine:
        check_canary(1.0, after)
    else:
        with pytest.raises(BenchError, match="the canary moved"):
            check_canary(1.0, after)


@pytest.mark.parametrize(("others", "fine"), [(None, True), (0.0, True), (0.04, True), (0.06, False), (1.9, False)])
def test_programs_beside_it_refuse_the_measurement(others, fine):
    """A steady load moves no canary."""
    if fine:
        check_alone(others)
    else:
        with pytest.raises(BenchError, match=f"other programs took {others:.0%} of a core"):
            check_alone(others)


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="only Linux tells what other programs take")
def test_the_load_is_that_of_others():
    beside = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        load, end = Load(), time.monotonic() + 1
        while time.monotonic() < end:
            pass
        assert load.others() > 0.3  # about 1, with a core for each
    finally:
        beside.kill()
        beside.wait()


def test_what_a_program_computes_itself_is_no_load(monkeypatch):
    clocks = iter([(10.0, 3.0, 50.0), (20.0, 11.0, 58.5)])
    monkeypatch.setattr("bench.stepping._clocks", lambda: next(clocks))
    assert Load().others() == pytest.approx(0.05)
    monkeypatch.setattr("bench.stepping._clocks", lambda: None)
    assert Load().others() is None


def test_the_canary_is_the_median_of_its_laps():
    times = iter([0.0, 9.0] + [t for lap in (1, 2, 3, 4, 5, 6, 7, 8, 30) for t in (100.0, 100.0 + lap)])
    assert canary(torch.device("cpu"), lambda: next(times)) == 5.0
