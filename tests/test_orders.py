"""What a plan's runs are made at: here the scales of the transfer track, from pilots and whole runs that are told."""

from types import SimpleNamespace

import pytest
from conducted import Here, started

from bench.errors import BenchError
from bench.jobs import Sizes, make, pilot
from bench.lent import parts_of
from bench.orders import scales_path


@pytest.fixture(scope="module")
def orders(tmp_path_factory):
    """Of muon's plan, on a bench where the yardstick has been tuned."""
    bench = started(tmp_path_factory.mktemp("tuned"))
    bench.conductor(bench.plan("adamw-ref"), Here()).tune()
    return bench.conductor(bench.plan("muon"), Here()).orders


def measured(orders, tmp_path, monkeypatch, pilots, *runs):
    """Return the scales that orders give where pilots find these sizes by shape and whole runs ended so, and the jobs.

    pilots and runs: the entry's, then the yardstick's; a run is (outcome, size of its steps in hidden matrices).
    """
    files, given = [tmp_path / f"{number}.json" for number in range(2)], []
    for file, sizes in zip(files, pilots, strict=True):
        file.write_text(Sizes(sizes=sizes).model_dump_json())
    told = {
        file: SimpleNamespace(outcome=outcome, facts=SimpleNamespace(update_rms={"hidden": size}))
        for file, (outcome, size) in zip(files, runs, strict=False)
    }

    def done(work, jobs):
        given.append((work, jobs))
        return files

    orders._done = done
    monkeypatch.setattr("bench.orders.read_record", told.__getitem__)
    return {name: value for name, value in orders._measured(1.0).items() if "x" in name}, given


SIZES = {"32x32": 1.0, "64x32": 2.0}, {"32x32": 0.6, "64x32": 0.6}


def test_a_shape_that_a_pilot_did_not_measure_is_not_scaled(orders, tmp_path, monkeypatch):
    sizes = {"32x32": 2.0, "64x32": 0.0, "32x64": 1.0}, {"32x32": 1.0, "64x32": 1.0}
    scales, _ = measured(orders, tmp_path, monkeypatch, sizes, ("finished", 0.1), ("finished", 0.1))
    assert scales == {"32x32": 0.5}
    none, given = measured(orders, tmp_path, monkeypatch, ({}, {}))
    assert none == {} and [work for work, _ in given] == [pilot]


def test_whole_runs_at_what_pilots_found_tell_by_how_much_all_scales_are_off(orders, tmp_path, monkeypatch):
    """The yardstick's steps, over the learning rate, are largest at the start, where alone a pilot looks."""
    scales, given = measured(orders, tmp_path, monkeypatch, SIZES, ("finished", 0.5), ("finished", 0.2))
    assert scales == pytest.approx({"32x32": 0.6 * 0.4, "64x32": 0.3 * 0.4}, rel=1e-5)
    (_, _), (work, (mine, theirs)) = given
    assert work is make and {name: v for name, v in mine.transfer.items() if "x" in name} == {
        "32x32": 0.6,
        "64x32": 0.3,
    }
    assert theirs.name == "adamw-ref" and mine.seed == theirs.seed == orders.plan.tuning.seeds[0]
    assert mine.plan == orders.plan.digest and theirs.plan == orders.plan.yardstick  # made once for all entries
    assert mine.places.records == theirs.places.records == orders.paths.places.work / "trials"


def test_no_scale_rests_on_what_did_not_end(orders, tmp_path, monkeypatch):
    """An entry that diverges keeps what pilots found; what ran out of memory, and a yardstick that failed, end it."""
    fine = ("finished", 0.2)
    assert measured(orders, tmp_path, monkeypatch, SIZES, ("diverged", 0.5), fine)[0] == {"32x32": 0.6, "64x32": 0.3}
    for mine, theirs, said in ((("out-of-memory", None), fine, "0.json: ended as out-of-memory"),
                               (fine, ("diverged", 0.5), "1.json: ended as diverged")):  # fmt: skip
        with pytest.raises(BenchError, match=said):
            measured(orders, tmp_path, monkeypatch, SIZES, mine, theirs)


def test_scales_are_kept_before_tuned_values_are_and_travel_with_the_plan(orders, tmp_path, monkeypatch):
    monkeypatch.setattr(orders, "_scales", {})
    measured(orders, tmp_path, monkeypatch, SIZES, ("finished", 0.5), ("finished", 0.2))
    first = orders.transfer(1.0, 0).transfer
    path = scales_path(orders.paths.places.work, orders.plan, 1.0)
    assert path in parts_of(orders.plan, orders.paths)
    orders._done = lambda work, jobs: pytest.fail("it was measured anew")
    orders._scales.clear()
    assert orders.transfer(1.0, 0).transfer == first
    path.write_text("{")
    orders._scales.clear()
    with pytest.raises(BenchError, match=path.name):
        orders.transfer(1.0, 0)
    path.unlink()
