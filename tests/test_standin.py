"""Stand-ins: a processor shown to give another's bits counts as it, for what was shown, and for nothing else."""

import json
import os
import sys

import pytest
from small import ADAMW, MUON, ROOT, make, places_in, write_task
from standins import OTHER, of_another, planned, record_of_another, request_of, shown

from bench.cli.main import main
from bench.cli.planning import remedy
from bench.cli.runs import set_switches
from bench.conduct import trial_run
from bench.digest import digest_of
from bench.entry import Entry
from bench.errors import BenchError
from bench.record import read_record, seal
from bench.replay import replay
from bench.run import run
from bench.setting import Watch, settle
from bench.standin import (
    VARIABLE,
    add_shown,
    processor_of,
    read_stand_in,
    settings_of,
    stand_in_path,
    switches_to_repeat,
)
from bench.task import read_task

SIGNUM = ROOT / "baselines" / "signum" / "signum.toml"
theirs = pytest.fixture(record_of_another)


def test_what_stands_in_counts_as_the_other_kind_and_says_which_processor_it_is(theirs, tmp_path, monkeypatch):
    task, _ = theirs
    own = settle(request_of(task), Watch()).machine
    _, record = shown(theirs, tmp_path, monkeypatch)
    path = make(task, ADAMW, tmp_path, seed=3)
    mine = read_record(path)
    assert mine.inputs.machine_kind == record.inputs.machine_kind != own.kind
    assert processor_of(mine.machine) == processor_of(own)
    assert mine.machine.stands_for == processor_of(record.machine)
    assert trial_run(path).stand_in == mine.machine.processor
    monkeypatch.delenv(VARIABLE)
    again = replay(path, read_task(task), Entry(ADAMW), places_in(tmp_path), Watch())
    assert (again.verdict, again.notes) == ("identical", ())  # it is the machine that made it, whatever it counts as


def test_a_kind_is_the_digest_it_was_before_machines_could_stand_in(theirs):
    machine = settle(request_of(theirs[0]), Watch()).machine
    before = machine.model_dump(mode="json", exclude={"ranks", "micro_batch_sequences", "stands_for"})
    assert machine.kind == digest_of(before)


def test_what_the_other_ran_and_was_not_shown_is_refused_and_what_it_never_ran_waits_for_the_rest(
    theirs, tmp_path, monkeypatch
):
    task, _ = theirs
    proof, _ = shown(theirs, tmp_path, monkeypatch)
    assert settle(request_of(task, MUON), Watch()).machine.stands_for  # of which the other has nothing
    record = read_record(of_another(run(planned(tmp_path, task, MUON)[0], places_in(tmp_path), Watch()), tmp_path))
    with pytest.raises(BenchError, match="not shown to give the bits of muon in bf16") as refused:
        settle(request_of(task, MUON), Watch())
    assert refused.value.hint == "bench stand-in tasks/small.toml --mode bf16"
    with pytest.raises(BenchError, match="the bits of muon in bf16"):
        settle(request_of(task, SIGNUM), Watch())  # what it would be compared with
    settle(request_of(task), Watch())
    monkeypatch.delenv(VARIABLE)
    machine = settle(request_of(task), Watch()).machine
    monkeypatch.setenv(VARIABLE, str(proof))
    add_shown(proof, record, "muon", machine, "somebody")
    assert settle(request_of(task, SIGNUM), Watch()).machine.stands_for == processor_of(record.machine)


def test_a_plan_of_another_kind_says_what_to_set_where_it_is_known(theirs, tmp_path, monkeypatch):
    task, path = theirs
    leaderboard, machine = tmp_path / "leaderboard", settle(request_of(task), Watch()).machine
    assert settings_of(machine, leaderboard, "small") is None
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    record, shown_on = read_record(path), settle(request_of(task), Watch()).machine
    proof = stand_in_path(leaderboard, "small", processor_of(shown_on), processor_of(record.machine), machine.lock)
    add_shown(proof, record, "adamw", shown_on, "somebody")
    known = f"ONEDNN_MAX_CPU_ISA=AVX2 BENCH_STAND_IN={proof}"
    assert settings_of(machine, leaderboard, "small") == known
    mine, theirs = planned(tmp_path, task, MUON)[1], planned(tmp_path, task)[1]
    assert remedy(machine, mine, theirs, leaderboard) is remedy(machine, theirs, None, leaderboard) is None
    elsewhere = mine.model_copy(update={"machine_kind": machine.kind})
    assert remedy(machine, elsewhere, theirs, leaderboard) == f"go on with {known}"
    proof.unlink()
    assert remedy(machine, elsewhere, theirs, leaderboard).startswith("bench stand-in tasks/small.toml")


def test_another_version_of_the_task_is_run_as_what_the_machine_is(theirs, tmp_path, monkeypatch):
    shown(theirs, tmp_path, monkeypatch)
    assert settle(request_of(theirs[0]), Watch()).machine.stands_for
    assert settle(request_of(write_task(tmp_path, tokens="8_192")), Watch()).machine.stands_for is None


def test_other_switches_and_other_libraries_are_refused_with_what_differs(theirs, tmp_path, monkeypatch):
    proof, _ = shown(theirs, tmp_path, monkeypatch)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    with pytest.raises(BenchError, match=r"this machine is .*switches ONEDNN_MAX_CPU_ISA=AVX2"):
        settle(request_of(theirs[0]), Watch())
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    proof.write_text(json.dumps(seal({**json.loads(proof.read_text()), "lock": "0" * 64})))
    with pytest.raises(BenchError, match="other versions of the libraries"):
        settle(request_of(theirs[0]), Watch())


def test_a_file_that_was_edited_or_is_gone_is_refused(theirs, tmp_path, monkeypatch):
    proof, _ = shown(theirs, tmp_path, monkeypatch)
    table = json.loads(proof.read_text())
    proof.write_text(json.dumps({**table, "who": "me"}))
    with pytest.raises(BenchError, match="changed after it was written"):
        settle(request_of(theirs[0]), Watch())
    proof.unlink()
    with pytest.raises(BenchError, match="no such file"):
        settle(request_of(theirs[0]), Watch())


def test_what_is_shown_later_stands_beside_what_was_shown_before(theirs, tmp_path, monkeypatch):
    proof, record = shown(theirs, tmp_path, monkeypatch)
    other = record.model_copy(update={"run_id": "2" * 64})
    machine = settle(request_of(theirs[0]), Watch()).machine
    add_shown(proof, other, "muon", machine, "somebody")
    assert read_stand_in(proof).covered == {("adamw", "bf16"), ("muon", "bf16")}


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "400")

    def call(task):
        monkeypatch.setattr(sys, "argv", ["bench", "stand-in", str(task), "--baselines", str(ROOT / "baselines"),
                                          "--tasks", str(tmp_path)])  # fmt: skip
        try:
            main()
        except SystemExit as stop:
            return stop.code or 0, *capsys.readouterr()
        return 0, *capsys.readouterr()

    return call


def test_the_command_makes_a_run_again_writes_it_down_once_and_names_the_file(theirs, tmp_path, command):
    code, out, _ = command(theirs[0])
    assert code == 0 and "adamw in bf16: identical over 64 steps" in out.splitlines()[0]
    (one,) = read_stand_in(tmp_path / out.split()[-1]).shown
    assert (one.run_id, one.algorithm, one.steps) == (theirs[1].stem, "adamw", 64)
    code, out, _ = command(theirs[0])
    assert code == 0 and out.startswith("nothing to show")


def test_the_other_shows_the_same_from_its_side(theirs, tmp_path, monkeypatch, command):
    """What a stand-in began is made again by the processor that it stood for: one file has both sides."""
    task, path = theirs
    proof, _ = shown(theirs, tmp_path, monkeypatch)
    mine = run(planned(tmp_path, task, MUON)[0], places_in(tmp_path), Watch())
    here, there = read_stand_in(proof).here, read_stand_in(proof).there
    monkeypatch.delenv(VARIABLE)
    table = json.loads(mine.read_text())
    of_another(mine, tmp_path, stands_for=here.model_dump())  # this processor is now the one that is stood for
    path.unlink()
    proof.unlink()
    assert table["machine"]["stands_for"] == there.model_dump()
    code, out, _ = command(task)
    assert code == 0 and "muon in bf16: identical" in out
    both = read_stand_in(tmp_path / out.split()[-1])
    assert (both.here.processor, both.there, both.covered) == (OTHER, here, {("muon", "bf16")})


def test_the_command_writes_nothing_down_where_bits_differ(theirs, tmp_path, command):
    task, path = theirs
    table = json.loads(path.read_text())
    path.write_text(json.dumps(seal({**table, "score_loss": table["score_loss"] + 1e-9})))
    code, out, err = command(task)
    assert code == 2 and "within band" in out and "not the same bits here: processor is" in err
    assert not (tmp_path / "leaderboard" / "standins").exists()


@pytest.fixture
def replayed(tmp_path, monkeypatch, capsys):
    """Call bench replay, and return what it says on both streams with the switches that it leaves set."""

    def call(path):
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "")  # so that it is taken away at the end
        monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
        monkeypatch.setattr(sys, "argv", ["bench", "replay", str(path), "--tasks", str(tmp_path), "--baselines",
                                          str(ROOT / "baselines"), "--steps", "1"])  # fmt: skip
        with pytest.raises(SystemExit):
            main()
        return *capsys.readouterr(), os.environ.get("ONEDNN_MAX_CPU_ISA")

    return call


def test_a_share_that_is_counted_beside_the_run_may_differ_and_is_named(theirs, tmp_path, command):
    task, path = theirs
    table = json.loads(path.read_text())
    table["facts"]["clip_rate"] += 1e-6
    path.write_text(json.dumps(seal(table)))
    code, out, _ = command(task)
    assert code == 0 and "within band over 64 steps, but for facts" in out
    assert read_stand_in(tmp_path / out.split()[-1]).shown[0].apart == ("facts",)


def test_a_replay_sets_the_switches_that_were_shown_to_give_the_record_s_bits(theirs, tmp_path, monkeypatch, replayed):
    task, path = theirs
    assert "with ONEDNN" not in replayed(path)[1]  # nothing is known of the two
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    machine = settle(request_of(task), Watch()).machine
    add_shown(tmp_path / "leaderboard" / "standins" / "small" / "a.json", read_record(path), "adamw", machine, "me")
    out, err, switch = replayed(path)
    assert "identical over 1 steps" in out and "with ONEDNN_MAX_CPU_ISA=AVX2, under which" in err and switch == "AVX2"


def test_a_replay_sets_the_switches_of_its_own_processor_and_leaves_those_that_are_set(theirs, monkeypatch):
    record, own = read_record(theirs[1]), {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    mine = record.model_copy(update={"machine": record.machine.model_copy(update={"switches": own})})
    assert switches_to_repeat(mine, OTHER, []) == own
    assert switches_to_repeat(mine, "a third one", []) == {}
    monkeypatch.setattr("bench.standin.switches_to_repeat", lambda *given: own)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    set_switches(record)
    assert os.environ["ONEDNN_MAX_CPU_ISA"] == "AVX512_CORE"
