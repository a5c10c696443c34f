"""Optimizers that reach past their step in a run: the guard ends it as crashed, and puts back what they changed."""

import random
import time

import pytest
import torch
from small import ADAMW, make, write_entry, write_task

from bench.entry import Entry
from bench.evaluate import final
from bench.evaluate.apart import losses_apart
from bench.record import read_record
from bench.replay import replay
from bench.run import run
from bench.setting import Places, Watch
from bench.task import read_task

BODY = """
import bench.evaluate.final, numpy, random, time


class Strange(Optimizer):
    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for w in group["params"]:
                w.add_(w.grad, alpha=-group["lr"])
            group["n"] = group.get("n", 0) + 1
            if group["n"] == 5:
                {}


def build(roles, hp, run):
    Strange.roles = roles
    return Strange([{{"params": roles.matrices}}], {{"lr": 0.1}})
"""
CHEATS = {  # at its fifth step: (what it does, what the record says)
    "moves its learning rate": ("group['lr'] *= 2", "changed its learning rate"),
    "draws from everybody's generator": ("torch.randn(1)", "random generator that is not run.generator"),
    "seeds Python's generator": ("random.seed(0)", "random generator that is not run.generator"),
    "seeds numpy's generator": ("numpy.random.seed(0)", "random generator that is not run.generator"),
    "changes the precision of everybody": ("torch.set_default_dtype(torch.float64)", "how everybody computes"),
    "stops the clock": ("time.perf_counter = lambda: 0.0", "time.perf_counter was replaced"),
    "patches torch": ("torch.nn.functional.cross_entropy = abs", "functional.cross_entropy was replaced"),
    "patches torch by a wrapper of its compiler": (
        "torch.nn.functional.cross_entropy = torch.compiler.disable(abs)", "functional.cross_entropy was replaced"),
    "chooses its batches from then on": ("self.next_batch_sequences = lambda: 8", "optimizer that chooses the batches"),
    "moves what it does not claim": ("self.roles.vectors[0].mul_(1.1)", "that the entry does not claim"),
    "turns another's gradient into signs": ("self.roles.embedding[0].grad.sign_()", "that the entry does not claim"),
    "takes another's gradient away": ("self.roles.vectors[0].grad = None", "that the entry does not claim"),
    "swaps the evaluator": ("bench.evaluate.final.evaluate = abs", "final.evaluate was replaced"),
    "hooks a parameter": ("self.roles.vectors[0].register_hook(lambda g: g)", "has a hook"),
    "trains no longer": ("self.roles.vectors[0].requires_grad_(False)", "is no longer trained"),
}  # fmt: skip


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return write_task(tmp_path_factory.mktemp("task"), tokens="4_096")


@pytest.mark.parametrize("what", CHEATS)
def test_the_guard_ends_a_run_whose_optimizer(what, task, tmp_path):
    does, said = CHEATS[what]
    before = time.perf_counter, torch.nn.functional.cross_entropy, final.evaluate
    try:
        record = read_record(make(task, write_entry(tmp_path, BODY.format(does)), tmp_path))
    finally:
        torch.set_default_dtype(torch.float32)
    assert record.outcome == "crashed" and "Tampered" in record.cause and said in record.cause
    assert (time.perf_counter, torch.nn.functional.cross_entropy, final.evaluate) == before
    assert record.score_loss is None


def test_a_replay_is_looked_at_as_the_run_was(task, tmp_path):
    """Otherwise the record of a run that the guard ended would not come back, and one made without a guard would."""
    entry = write_entry(tmp_path, BODY.format(CHEATS["moves what it does not claim"][0]))
    path, said = make(task, entry, tmp_path), []
    places = Places(tmp_path / "data", tmp_path / "work", tmp_path / "records")
    again = replay(path, read_task(task), Entry(entry), places, Watch(say=said.append))
    assert (again.verdict, again.differing) == ("identical", ())
    assert len(said) == 1 and "Tampered" in said[0]


SWAP = """
import bench.evaluate.final
from contextlib import contextmanager


@contextmanager
def evaluation_weights(optimizers):
    held, bench.evaluate.final.evaluate = bench.evaluate.final.evaluate, lambda *_: torch.zeros(1)
    try:
        yield
    finally:
        bench.evaluate.final.evaluate = held
"""


def test_code_is_looked_at_within_the_evaluation_too(task, tmp_path):
    body = BODY.format("pass") + SWAP
    record = read_record(make(task, write_entry(tmp_path, body), tmp_path))
    assert record.outcome == "crashed" and "final.evaluate was replaced" in record.cause


def test_a_run_that_goes_on_has_the_controller_that_it_began_with(task, tmp_path):
    body = BODY.format("pass") + "\n\nStrange.__setstate__ = lambda self, state: (\n" + (
        "    Optimizer.__setstate__(self, state), vars(self).update(next_batch_sequences=lambda: 8))\n")  # fmt: skip
    entry = write_entry(tmp_path, body)

    def killed(progress, steps, batch_tokens):
        if progress.step > 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(task, entry, tmp_path, watch=Watch(progress=killed))
    record = read_record(make(task, entry, tmp_path))
    assert record.outcome == "crashed" and "optimizer that chooses the batches" in record.cause


def test_the_guard_moves_no_generator_and_lets_an_honest_run_be(task, tmp_path):
    drawn = torch.get_rng_state(), random.getstate()
    record = read_record(make(task, ADAMW, tmp_path))
    assert record.outcome == "finished"
    assert torch.equal(drawn[0], torch.get_rng_state()) and drawn[1] == random.getstate()


def test_a_process_that_gets_only_weights_scores_them_to_the_bit(task, tmp_path):
    from bench.assemble import Request
    from bench.entry import Entry
    from bench.task import read_task

    entry = Entry(ADAMW)
    request = Request(task.stem, read_task(task), entry, entry.values({}), "bf16", 1.0, "declared", 0, device="cpu")
    places = Places(tmp_path / "data", tmp_path / "work", tmp_path / "records", weights=tmp_path / "weights")
    record = read_record(run(request, places, Watch()))
    apart = losses_apart(task, tmp_path / "weights" / record.run_id, tmp_path / "data", record.machine.compiled)
    assert (apart.evaluated, apart.select_loss, apart.score_loss) == (
        record.weights.evaluated, record.select_loss, record.score_loss,
    )  # fmt: skip
