"""Slurm jobs, by submitit's executor for one machine: the same bits, and a job that was ended is submitted again."""

import threading

import pytest

pytest.importorskip("submitit")
from small import write_task
from working import bits, check_taken_up, job_in, refuse, slowly, told, until

from bench.engine.slurm import Slurm
from bench.errors import BenchError
from bench.jobs import make


@pytest.fixture
def engine(tmp_path):
    engine = Slurm(1, tmp_path / "slurm", cluster="local")
    yield engine
    engine.close()


def test_a_plan_that_is_done_submits_nothing(engine, recwarn):
    """An empty array is none: submitit warns of one."""
    assert list(engine.map(make, [])) == [] and not recwarn.list


def test_a_slurm_job_makes_the_same_bits(engine, tmp_path):
    task = write_task(tmp_path)
    found = [path for _, path in engine.map(make, [job_in(tmp_path, task)])]
    assert bits(found) == bits([make(job_in(tmp_path / "straight", task))])


@pytest.mark.slow
def test_slurm_jobs_make_the_same_bits_where_one_is_killed(engine, tmp_path):
    task = write_task(tmp_path)
    expected = bits([make(job_in(tmp_path / "straight", task, seed)) for seed in range(2)])
    killer = threading.Thread(target=kill_one, args=(engine, tmp_path))
    killer.start()
    found = list(engine.map(slowly, [job_in(tmp_path, task, seed) for seed in range(2)]))
    killer.join()
    assert bits([path for _, path in sorted(found)]) == expected
    check_taken_up(tmp_path, 2)
    with pytest.raises(BenchError) as mistake:
        list(engine.map(refuse, [job_in(tmp_path, task)]))
    assert (mistake.value.what, mistake.value.hint) == ("seed 0 is refused", "take another")


def kill_one(engine, folder):
    until(lambda: [line for line in told(folder) if line["step"] >= 32])
    engine._running[next(line["seed"] for line in told(folder) if line["step"] >= 32)].cancel()


def test_without_slurm_or_with_a_wrong_setting_one_line_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchError, match="srun"):
        Slurm(1, tmp_path)
    with pytest.raises(BenchError, match="Unknown argument 'partitoin'"):
        Slurm(1, tmp_path, {"partitoin": "a100"}, cluster="local")
    monkeypatch.setitem(__import__("sys").modules, "submitit", None)
    with pytest.raises(BenchError, match="not installed") as missing:
        Slurm(1, tmp_path)
    assert missing.value.hint == "pip install -e '.[slurm]'"
