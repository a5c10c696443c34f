"""A Ray cluster of two nodes: one is killed in the middle, nothing is lost, and nothing is run twice."""

import sys
import threading

import pytest
from small import write_task
from working import bits, check_taken_up, job_in, refuse, slowly, told, until

from bench.engine.answers import Deaths
from bench.engine.ray import Ray
from bench.errors import BenchError
from bench.jobs import make


@pytest.mark.slow
def test_a_cluster_that_loses_a_node_makes_the_same_bits_and_nothing_twice(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    memory = {"object_store_memory": 80_000_000, "num_cpus": 1}
    cluster = Cluster(initialize_head=True, head_node_args=memory)
    second = cluster.add_node(**memory)
    task = write_task(tmp_path)
    expected = bits([make(job_in(tmp_path / "straight", task, seed)) for seed in range(6)])
    deaths: list[str] = []
    monkeypatch.setattr(Deaths, "count", lambda self, place, job, how: deaths.append(how))
    engine = Ray(1, address=cluster.address)
    try:
        killer = threading.Thread(target=kill_node, args=(cluster, second, tmp_path))
        killer.start()
        found = list(engine.map(slowly, [job_in(tmp_path, task, seed) for seed in range(6)]))
        killer.join()
        assert len(deaths) == 1, f"the run on the killed node is lost once, however late Ray is told: {deaths}"
        workers = {line["worker"] for line in told(tmp_path)}
        makers = {line["worker"] for line in told(tmp_path) if line["what"] == "made"}
        assert (len(workers), len(makers)) == (2, 1), "the killed node's worker had a run in hand, and made none"
        assert sorted(place for place, _ in found) == list(range(6))
        assert bits([path for _, path in sorted(found)]) == expected
        check_taken_up(tmp_path, 6)
        with pytest.raises(BenchError) as mistake:
            list(engine.map(refuse, [job_in(tmp_path, task)]))
        assert (mistake.value.what, mistake.value.hint) == ("seed 0 is refused", "take another")
        with pytest.raises(BenchError, match="no node of the Ray cluster has the 64 cores"):
            Ray(64)
    finally:
        engine.close()
        cluster.shutdown()


def kill_node(cluster, node, folder):
    """Kill a node when both have a run well under way."""
    until(lambda: len({line["seed"] for line in told(folder) if line["step"] >= 32}) >= 2)
    cluster.remove_node(node, allow_graceful=False)


def test_without_ray_or_a_cluster_one_line_says_so(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "ray", None)
        with pytest.raises(BenchError, match="not installed") as missing:
            Ray(1)
        assert missing.value.hint == "pip install -e '.[ray]'"
    pytest.importorskip("ray")
    with pytest.raises(BenchError, match=r"no cluster at 127\.0\.0\.1:1: .*refused"):
        Ray(1, address="127.0.0.1:1")
