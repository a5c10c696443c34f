"""What a plan's runs are made at: here the scales of the transfer track, from pilots and whole runs that are told."""

import pytest
from conducted import Here, started

from bench.jobs import Sizes, pilot


@pytest.fixture(scope="module")
def orders(tmp_path_factory):
    """Of muon's plan, on a bench where the yardstick has been tuned."""
    bench = started(tmp_path_factory.mktemp("tuned"))
    bench.conductor(bench.plan("adamw-ref"), Here()).tune()
    return bench.conductor(bench.plan("muon"), Here()).orders


def measured_by(orders, tmp_path, monkeypatch, pilots, runs):
    """Return the scales that orders give where pilots find these sizes by shape, and whole runs these steps."""
    given = []

    def done(work, jobs):
        given.append((work, jobs))
        if work is not pilot:
            return runs
        files = [tmp_path / f"{number}.json" for number in range(len(pilots))]
        for file, sizes in zip(files, pilots, strict=True):
            file.write_text(Sizes(sizes=sizes).model_dump_json())
        return files

    orders._done = done
    monkeypatch.setattr("bench.orders.step_size", lambda size: size)
    return {name: value for name, value in orders._measured(1.0).items() if "x" in name}, given


def test_a_shape_that_a_pilot_did_not_measure_is_not_scaled(orders, tmp_path, monkeypatch):
    sizes = {"32x32": 2.0, "64x32": 0.0, "32x64": 1.0}, {"32x32": 1.0, "64x32": 1.0}
    scales, _ = measured_by(orders, tmp_path, monkeypatch, sizes, (None, 1.0))
    assert scales == {"32x32": 0.5}
    assert measured_by(orders, tmp_path, monkeypatch, ({}, {}), ())[0] == {}


def test_whole_runs_at_what_pilots_found_tell_by_how_much_all_scales_are_off(orders, tmp_path, monkeypatch):
    """The yardstick's steps, over the learning rate, are largest at the start, where alone a pilot looks."""
    sizes = {"32x32": 1.0, "64x32": 2.0}, {"32x32": 0.6, "64x32": 0.6}
    scales, given = measured_by(orders, tmp_path, monkeypatch, sizes, (0.5, 0.2))
    assert scales == pytest.approx({"32x32": 0.6 * 0.4, "64x32": 0.3 * 0.4}, rel=1e-5)
    (_, _), (_, (mine, theirs)) = given
    assert {name: v for name, v in mine.transfer.items() if "x" in name} == {"32x32": 0.6, "64x32": 0.3}
    assert theirs.name == "adamw-ref" and mine.seed == theirs.seed == orders.plan.tuning.seeds[0]
    assert mine.places.records == theirs.places.records == orders.paths.places.work / "trials"
