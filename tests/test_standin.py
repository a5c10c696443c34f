"""Stand-ins: a processor shown to give another's bits counts as it, for what was shown, and for nothing else."""

import json
import sys
from dataclasses import replace

import pytest
from small import ADAMW, MUON, ROOT, make, places_in, write_task

from bench.assemble import Request
from bench.cli.main import main
from bench.digest import digest_of
from bench.entry import Entry
from bench.errors import BenchError
from bench.lint import lint_paths
from bench.record import log_path, read_record, seal
from bench.replay import replay
from bench.run import run
from bench.setting import Watch, settle
from bench.standin import (
    VARIABLE,
    add_shown,
    processor_of,
    read_stand_in,
    read_stand_ins,
    switches_for,
    why_not_stood_in,
)
from bench.task import read_task

OTHER = "Processor of another party"
PLAN = "1" * 64


def of_another(path, folder, **machine):
    """Move a record to a leaderboard as one that another processor made, sealed and named as it would be."""
    table = json.loads(path.read_text())
    table["machine"] |= {"processor": OTHER, "switches": {}, **machine}
    record = read_record(path)
    there = type(record.machine).model_validate({**table["machine"]})
    table["inputs"]["machine_kind"] = there.kind
    table["run_id"] = digest_of(table["inputs"])
    home = folder / "leaderboard" / "records" / record.task / PLAN[:16]
    home.mkdir(parents=True, exist_ok=True)
    moved = home / f"{table['run_id']}.json"
    log_path(moved).write_bytes(log_path(path).read_bytes())
    moved.write_text(json.dumps(seal(table)))
    return moved


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """A leaderboard with another processor's record of AdamW; the task's folder is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    task, entry = write_task(tmp_path), Entry(ADAMW)
    request = Request("small", read_task(task), entry, entry.values({}), "bf16", 1.0, "tuned", 0, PLAN)
    return task, of_another(run(request, places_in(tmp_path), Watch()), tmp_path)


def shown(theirs, tmp_path, monkeypatch):
    """Show that this processor gives the record's run, and have it stand in from here on."""
    task, path = theirs
    record = read_record(path)
    machine = settle(request_of(task), Watch()).machine
    proof = add_shown(tmp_path / "leaderboard", record, "adamw", machine, "somebody")
    monkeypatch.setenv(VARIABLE, str(proof))
    return proof, record


def request_of(task, entry=ADAMW, mode="bf16", name="small"):
    found = Entry(entry)
    return Request(name, read_task(task), found, found.values({}), mode, 1.0, "declared", 0)


def test_what_stands_in_counts_as_the_other_kind_and_says_which_processor_it_is(theirs, tmp_path, monkeypatch):
    task, _ = theirs
    own = settle(request_of(task), Watch()).machine
    _, record = shown(theirs, tmp_path, monkeypatch)
    path = make(task, ADAMW, tmp_path, seed=3)
    mine = read_record(path)
    assert mine.inputs.machine_kind == record.inputs.machine_kind != own.kind
    assert processor_of(mine.machine) == processor_of(own)
    assert mine.machine.stands_for == processor_of(record.machine)
    monkeypatch.delenv(VARIABLE)
    again = replay(path, read_task(task), Entry(ADAMW), places_in(tmp_path), Watch())
    assert (again.verdict, again.notes) == ("identical", ())  # it is the machine that made it, whatever it counts as


def test_a_kind_is_the_digest_it_was_before_machines_could_stand_in(theirs):
    machine = settle(request_of(theirs[0]), Watch()).machine
    before = machine.model_dump(mode="json", exclude={"ranks", "micro_batch_sequences", "stands_for"})
    assert machine.kind == digest_of(before)


@pytest.mark.parametrize(
    ("entry", "mode", "said"),
    [(MUON, "bf16", "shows no run of muon in bf16"), (ADAMW, "qat-int8", "shows no run of adamw in qat-int8")],
)
def test_it_holds_for_the_algorithms_and_modes_that_were_shown(theirs, tmp_path, monkeypatch, entry, mode, said):
    shown(theirs, tmp_path, monkeypatch)
    with pytest.raises(BenchError, match=said) as refused:
        settle(request_of(theirs[0], entry, mode), Watch())
    assert "adamw in bf16" in (refused.value.hint or "")


def test_another_task_is_run_as_what_the_machine_is(theirs, tmp_path, monkeypatch):
    shown(theirs, tmp_path, monkeypatch)
    assert settle(request_of(theirs[0], name="other"), Watch()).machine.stands_for is None


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
    assert add_shown(tmp_path / "leaderboard", other, "muon", machine, "somebody") == proof
    assert {one.algorithm for one in read_stand_in(proof).shown} == {"adamw", "muon"}
    newer = machine.model_copy(update={"lock": "0" * 64})  # other libraries: nothing of it is known any more
    add_shown(tmp_path / "leaderboard", other, "muon", newer, "somebody")
    assert {one.algorithm for one in read_stand_in(proof).shown} == {"muon"}


def test_lint_asks_for_what_shows_that_a_record_may_count_as_another(theirs, tmp_path, monkeypatch):
    task, path = theirs
    proof, _ = shown(theirs, tmp_path, monkeypatch)
    places = replace(places_in(tmp_path), records=tmp_path / "leaderboard" / "records")
    found = read_record(run(replace(request_of(task), seed=5), places, Watch()))
    leaderboard = tmp_path / "leaderboard"
    (leaderboard / "versions.json").write_text(json.dumps({"small": {"1": read_task(task).digest}}))
    assert any("1 runs shown" in line for line in lint_paths([leaderboard]))
    assert why_not_stood_in(found, read_stand_ins(leaderboard, "small")) is None
    assert "in qat-int8" in str(why_not_stood_in(
        found.model_copy(update={"inputs": found.inputs.model_copy(update={"mode": "qat-int8"})}),
        read_stand_ins(leaderboard, "small")))  # fmt: skip
    text = proof.read_text()
    proof.unlink()
    with pytest.raises(BenchError, match=f"is not shown to give the bits of {OTHER}"):
        list(lint_paths([leaderboard]))
    proof.write_text(text)
    path.unlink()
    with pytest.raises(BenchError, match="has no such record"):
        list(lint_paths([leaderboard / "standins"]))


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
    assert command(theirs[0])[:2] == (0, "")  # it is shown: nothing is left to do


def test_the_command_writes_nothing_down_where_bits_differ(theirs, tmp_path, command):
    task, path = theirs
    table = json.loads(path.read_text())
    path.write_text(json.dumps(seal({**table, "score_loss": table["score_loss"] + 1e-9})))
    code, out, err = command(task)
    assert code == 2 and "within band" in out and "not the same bits here: processor is" in err
    assert not (tmp_path / "leaderboard" / "standins").exists()


def test_the_command_refuses_the_very_processor_and_a_board_without_runs(theirs, tmp_path, command):
    task, path = theirs
    here = settle(request_of(task), Watch()).machine
    path.unlink()
    assert "no run of small at 1x to be made again" in command(task)[2]
    found = Entry(ADAMW)
    request = Request("small", read_task(task), found, found.values({}), "bf16", 1.0, "tuned", 0, PLAN)
    of_another(run(request, places_in(tmp_path), Watch()), tmp_path, processor=here.processor, switches=here.switches)
    code, _, err = command(task)
    assert code == 2 and "itself: there is nothing to show" in err


def test_a_replay_that_is_not_identical_says_which_switches_were_shown_to_be(theirs, tmp_path, monkeypatch):
    task, path = theirs
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    machine = settle(request_of(task), Watch()).machine
    add_shown(tmp_path / "leaderboard", read_record(path), "adamw", machine, "somebody")
    proofs = read_stand_ins(tmp_path / "leaderboard", "small")
    assert switches_for(machine, read_record(path), proofs) is None  # they are set
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    assert (
        switches_for(settle(request_of(task), Watch()).machine, read_record(path), proofs) == "ONEDNN_MAX_CPU_ISA=AVX2"
    )
