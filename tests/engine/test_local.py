"""This machine's workers: the same bits as without them, and a death, a mistake or an error of ours told apart."""

import os
import signal
import threading

import pytest
from small import write_task
from working import bits, check_taken_up, die, fail, job_in, refuse, slowly, told, until

from bench.engine.answers import Deaths
from bench.engine.local import Local
from bench.errors import BenchError
from bench.jobs import make


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The task, and the records of four seeds made in this process."""
    folder = tmp_path_factory.mktemp("straight")
    task = write_task(folder)
    return task, bits([make(job_in(folder, task, seed)) for seed in range(4)])


@pytest.fixture(scope="module")
def engine():
    engine = Local(threads=1, workers=2)
    yield engine
    engine.close()


def test_workers_make_the_bits_that_this_process_makes(straight, engine, tmp_path):
    task, expected = straight
    found = dict(engine.map(make, [job_in(tmp_path, task, seed) for seed in range(4)]))
    assert bits([found[place] for place in range(4)]) == expected


def test_a_killed_workers_run_is_taken_up_from_its_checkpoint_and_the_others_go_on(straight, engine, tmp_path):
    task, expected = straight
    killer = threading.Thread(target=kill_one, args=(tmp_path,))
    killer.start()
    found = list(engine.map(slowly, [job_in(tmp_path, task, seed) for seed in range(4)]))
    killer.join()
    assert sorted(place for place, _ in found) == [0, 1, 2, 3]
    assert bits([path for _, path in sorted(found)]) == expected
    check_taken_up(tmp_path, 4)
    assert len({line["worker"] for line in told(tmp_path)}) == 3, "the other worker lives on"


def kill_one(folder):
    until(lambda: [line for line in told(folder) if line["step"] >= 32])
    os.kill(next(line["worker"] for line in told(folder) if line["step"] >= 32), signal.SIGKILL)


def test_mistakes_and_deaths_are_one_line_each_and_errors_of_ours_keep_their_traceback(straight, engine, tmp_path):
    job = job_in(tmp_path, straight[0])
    with pytest.raises(BenchError) as mistake:
        list(engine.map(refuse, [job]))
    assert (mistake.value.what, mistake.value.hint) == ("seed 0 is refused", "take another")
    with pytest.raises(RuntimeError, match=r"in fail\n(.*\n)*ZeroDivisionError: ours"):
        list(engine.map(fail, [job]))


def test_the_third_death_with_a_job_in_hand_is_the_end(straight, tmp_path):
    job, deaths = job_in(tmp_path, straight[0]), Deaths()
    for _ in range(2):
        deaths.count(0, job, "SIGKILL")
        deaths.count(1, job, "SIGKILL")
    with pytest.raises(BenchError, match=r"small adamw .* seed 0: its worker died 3 times, the last time of SIGKILL"):
        deaths.count(0, job, "SIGKILL")


@pytest.mark.slow
def test_a_job_that_kills_its_workers_is_given_up(straight, engine, tmp_path):
    with pytest.raises(BenchError, match=r"small adamw .* seed 0: its worker died 3 times, the last time of SIGKILL"):
        list(engine.map(die, [job_in(tmp_path, straight[0])]))


def test_answers_of_an_abandoned_map_do_not_reach_the_next(straight, engine, tmp_path):
    jobs = [job_in(tmp_path, straight[0], seed) for seed in range(3)]
    running = engine.map(make, jobs)
    next(running)
    running.close()
    assert [bits([path]) for _, path in sorted(engine.map(make, jobs[2:]))] == [straight[1][2:3]]


def test_workers_hold_cores_of_their_own():
    engine = Local(threads=1)
    cores = sorted(os.sched_getaffinity(0))
    assert [worker._cores for worker in engine.workers] == [{core} for core in cores]
