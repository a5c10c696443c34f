"""Another processor's record on a leaderboard, and this one shown to give its bits."""

import json

from small import ADAMW, places_in, write_task

from bench.assemble import Request
from bench.digest import digest_of
from bench.entry import Entry
from bench.machine import kernel_switches
from bench.plan import make_plan, write_plan
from bench.record import log_path, read_record, seal
from bench.run import run
from bench.setting import Watch, settle
from bench.standin import VARIABLE, add_shown
from bench.task import read_task

OTHER = "Processor of another party"


def planned(folder, task, entry=ADAMW):
    """Write a plan for another processor, and return a request of it."""
    found = Entry(entry)
    yardstick = None if entry == ADAMW else planned(folder, task)[1]
    plan = make_plan("small", read_task(task), found, "9" * 64, yardstick)
    write_plan(folder / "leaderboard" / "plans", plan)
    request = Request("small", read_task(task), found, found.values({}), "bf16", 1.0, "tuned", 0, plan.digest)
    return request, plan


def of_another(path, folder, **machine):
    """Move a record to a leaderboard as one that another processor made, sealed and named as it would be."""
    table = json.loads(path.read_text())
    table["machine"] |= {"processor": OTHER, "switches": {}, "stands_for": None, **machine}
    record = read_record(path)
    there = type(record.machine).model_validate({**table["machine"]})
    table["inputs"]["machine_kind"] = there.kind
    table["run_id"] = digest_of(table["inputs"])
    home = folder / "leaderboard" / "records" / record.task / record.plan[:16]
    home.mkdir(parents=True, exist_ok=True)
    moved = home / f"{table['run_id']}.json"
    log_path(moved).write_bytes(log_path(path).read_bytes())
    moved.write_text(json.dumps(seal(table)))
    return moved


def record_of_another(tmp_path, monkeypatch):
    """Return a task and, on a leaderboard, another processor's record of AdamW, from the task's folder: a fixture."""
    monkeypatch.chdir(tmp_path)
    for name in (VARIABLE, *kernel_switches()):  # libraries of other tests set some
        monkeypatch.delenv(name, raising=False)
    task = write_task(tmp_path)
    return task, of_another(run(planned(tmp_path, task)[0], places_in(tmp_path), Watch()), tmp_path)


def shown(theirs, tmp_path, monkeypatch):
    """Show that this processor gives the record's run, and have it stand in from here on."""
    task, path = theirs
    record, proof = read_record(path), tmp_path / "leaderboard" / "standins" / "small" / "pair.json"
    add_shown(proof, record, "adamw", settle(request_of(task), Watch()).machine, "somebody")
    monkeypatch.setenv(VARIABLE, str(proof))
    return proof, record


def request_of(task, entry=ADAMW, mode="bf16"):
    found = Entry(entry)
    return Request("small", read_task(task), found, found.values({}), mode, 1.0, "declared", 0)
