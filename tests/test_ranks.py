"""Ranks: one order of data whatever their number, one line when one of them dies, and the same bits when it goes on."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from small import ADAMW, MUON, checkpoints_in, make, write_entry, write_task

from bench.assemble import micro_batch_of
from bench.errors import BenchError
from bench.launch import launch, torchrun_line
from bench.record import read_log, read_record
from bench.task import read_task
from bench.workers import owners

BENCH = [sys.executable, "-m", "bench"]
BOUND = 0.02  # nats by which the ranks' losses may part in 64 steps: sums in another order, in bf16


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "BENCH_DATA": str(folder / "data"), "OMP_NUM_THREADS": "1"}


def bench(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([*BENCH, *arguments], cwd=folder, env=environment(folder), capture_output=True, text=True)


def run_ranks(folder: Path, task: Path, entry: Path, ranks: int, records: str = "records", *more: str) -> Path:
    done = bench(folder, "run", str(task), str(entry), "--device", "cpu", "--devices", str(ranks), "--json",
                 "--records", str(folder / records), *more)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1, "one rank speaks for all"
    return Path(json.loads(done.stdout)["record"])


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Path, dict[int, Path]]:
    """Records of one run on 1, 2 and 4 ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    task = write_task(folder, layers="3", tokens="16_384", rungs="[1.0]", micro_batch_sequences="2")
    return folder, task, {ranks: run_ranks(folder, task, MUON, ranks) for ranks in (1, 2, 4)}


def test_any_number_of_ranks_reads_the_same_order_and_ends_within_the_bound(trained):
    records = {ranks: read_record(path) for ranks, path in trained[2].items()}
    assert {record.chains.data for record in records.values()} == {records[1].chains.data}
    assert {ranks: record.machine.ranks for ranks, record in records.items()} == {1: 1, 2: 2, 4: 4}
    assert len({record.run_id for record in records.values()}) == 3
    alone = read_log(trained[2][1], records[1])
    for ranks in (2, 4):
        record = records[ranks]
        log = read_log(trained[2][ranks], record)
        assert max(abs(a - b) for a, b in zip(log.loss, alone.loss, strict=True)) < BOUND
        assert abs(record.score_loss - records[1].score_loss) < BOUND
        assert record.facts.state_bytes_per_parameter == records[1].facts.state_bytes_per_parameter
        assert record.facts.state_dtypes == ("float32",)


def test_a_record_of_several_ranks_replays_identical_on_as_many(trained):
    folder, task, records = trained
    done = bench(folder, "replay", str(records[2]), "--tasks", str(task.parent), "--baselines", str(MUON.parents[1]))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("identical over 64 steps")


def test_a_rank_killed_ends_all_with_one_line_and_the_run_goes_on_to_the_same_bits(trained, tmp_path):
    _, task, records = trained
    arguments = ["run", str(task), str(MUON), "--device", "cpu", "--devices", "2", "--checkpoint-seconds", "0",
                 "--records", str(tmp_path / "records")]  # fmt: skip
    process = started(tmp_path, arguments)
    os.kill(rank_of(process.pid, 1), signal.SIGKILL)
    said, errors = process.communicate(timeout=600)
    assert process.returncode == 1 and not said
    assert re.fullmatch(r"error: rank 1 was killed \(SIGKILL\)\n  nothing is lost: .*\n", errors), errors
    again = bench(tmp_path, *arguments)
    assert again.returncode == 0 and "going on from step" in again.stderr, again.stderr
    (path,) = (tmp_path / "records").rglob("*.json")
    resumed, straight = read_record(path), read_record(records[2])
    assert (resumed.run_id, resumed.chains, resumed.weights) == (straight.run_id, straight.chains, straight.weights)
    assert not checkpoints_in(tmp_path), "checkpoints go when the record stands"


def test_ranks_end_with_a_launcher_that_is_killed_and_leave_the_run_to_the_next(trained, tmp_path):
    _, task, _ = trained
    process = started(tmp_path, ["run", str(task), str(MUON), "--device", "cpu", "--devices", "2",
                                 "--checkpoint-seconds", "0", "--records", str(tmp_path / "records")])  # fmt: skip
    ranks = [rank_of(process.pid, rank) for rank in (0, 1)]
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while any(alive(rank) for rank in ranks):
        assert time.monotonic() < deadline, "an orphan holds on to its run"
        time.sleep(0.05)


def alive(process: int) -> bool:
    """Whether a process runs; one that has ended and waits to be noticed does not."""
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def started(folder: Path, arguments: list[str]) -> subprocess.Popen:
    """Start a command and return it when its second rank has left a checkpoint."""
    process = subprocess.Popen([*BENCH, *arguments], cwd=folder, env=environment(folder), text=True,
                               stderr=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    deadline = time.monotonic() + 600
    while not any(path.parent.name == "rank-1" for path in checkpoints_in(folder)):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.005)
    return process


def rank_of(agent: int, rank: int) -> int:
    """Return the process of a rank that an agent started."""
    children = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
    for child in children:
        if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            return int(child)
    raise AssertionError(children)


def test_what_fails_on_one_rank_is_the_runs_outcome(tmp_path):
    body = (
        "import os\n\nclass Strange(Optimizer):\n    @torch.no_grad()\n    def step(self, closure=None):\n"
        "        if os.environ.get('RANK') == '1': raise KeyError('oops')\n\n"
        "def build(roles, hp, run):\n    return Strange([{'params': roles.matrices}], {'lr': 0.1})\n"
    )
    done = bench(tmp_path, "run", str(write_task(tmp_path)), str(write_entry(tmp_path, body)), "--device", "cpu",
                 "--devices", "2", "--records", str(tmp_path / "records"))  # fmt: skip
    assert done.returncode == 1
    said = r"error: rank 1: crashed: KeyError: 'oops' \(optimizer\.py, line \d+\)\n  the record says so"
    assert re.match(said, done.stderr), done.stderr
    assert "nothing is lost" not in done.stderr
    (path,) = (tmp_path / "records").rglob("*.json")
    record = read_record(path)
    assert record.outcome == "crashed" and record.cause.startswith("rank 1: KeyError")


def test_a_rank_that_is_aborted_has_its_last_line_said(tmp_path):
    body = (
        "import os\n\nclass Aborted(Optimizer):\n    @torch.no_grad()\n    def step(self, closure=None):\n"
        "        if os.environ.get('RANK') == '1': os.write(2, b'what(): gone\\n'); os.abort()\n\n"
        "def build(roles, hp, run):\n    return Aborted([{'params': roles.matrices}], {'lr': 0.1})\n"
    )
    done = bench(tmp_path, "run", str(write_task(tmp_path)), str(write_entry(tmp_path, body)), "--device", "cpu",
                 "--devices", "2", "--records", str(tmp_path / "records"))  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error: rank 1 was killed (SIGABRT): what(): gone\n  nothing is lost"), done.stderr


def test_a_micro_batch_of_ones_own_is_recorded_and_is_another_run(tmp_path):
    task = write_task(tmp_path)
    plain = read_record(make(task, ADAMW, tmp_path))
    assert plain.machine.micro_batch_sequences is None
    own = read_record(run_ranks(tmp_path, task, ADAMW, 1, "records", "--micro-batch", "4"))
    assert own.machine.micro_batch_sequences == 4 and own.run_id != plain.run_id
    assert own.chains.data == plain.chains.data and own.chains.loss != plain.chains.loss


def test_batches_that_ranks_cannot_share_are_refused_with_what_fits(tmp_path):
    task = read_task(write_task(tmp_path))
    with pytest.raises(BenchError, match="cannot be shared by 3 ranks") as error:
        micro_batch_of(task, 3, None)
    assert "1, 2, 4, 8" in error.value.hint
    with pytest.raises(BenchError, match="no multiple of a micro-batch of 3") as error:
        micro_batch_of(task, 2, 3)
    assert "1, 2, 4" in error.value.hint
    assert [micro_batch_of(task, ranks, None) for ranks in (1, 2, 4, 8)] == [8, 4, 2, 1]


def test_matrices_are_shared_out_whole_once_and_evenly():
    shapes = [(64, 64)] * 8 + [(192, 64)] * 4 + [(64, 192)] * 4
    matrices = [torch.nn.Parameter(torch.empty(shape)) for shape in shapes]
    shares = owners(matrices, 4)
    assert sorted(map(id, (w for share in shares for w in share))) == sorted(map(id, matrices))
    costs = [sum(w.numel() * min(w.shape) for w in share) for share in shares]
    assert max(costs) == min(costs)
    assert owners(matrices[:1], 3)[1:] == [[], []]


def test_a_port_in_use_is_one_line(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ranked = {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0",
                  "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}  # fmt: skip
        done = subprocess.run([*BENCH, "run", str(write_task(tmp_path)), str(ADAMW)], cwd=tmp_path, text=True,
                              env={**environment(tmp_path), **ranked}, capture_output=True)  # fmt: skip
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "cannot join the others" in line and port in line and "in use" in line
    assert "Traceback" not in done.stderr


def test_devices_that_are_not_there_are_one_line(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(BenchError, match="no GPU"):
        launch(2, [], "cuda")
    with pytest.raises(BenchError, match="no GPU that torch can use, and"):
        launch(4096, [])
    done = bench(tmp_path, "run", str(write_task(tmp_path)), str(ADAMW), "--device", "cuda")
    assert done.returncode == 2 and "no GPU can be used" in done.stderr and "Traceback" not in done.stderr


def test_the_line_for_a_cluster_starts_the_same_run_on_every_node(tmp_path):
    task = write_task(tmp_path)
    done = bench(tmp_path, "run", str(task), str(ADAMW), "--nodes=2", "--devices", "4", "--seed", "3")
    assert done.stdout.strip() == torchrun_line(2, 4, ["run", str(task), str(ADAMW), "--seed", "3"])
    assert "--nnodes 2 --nproc-per-node 4" in done.stdout and "--devices" not in done.stdout
