"""What no entry is written for is refused by the harness, once for all of them, in one line with its place."""

from dataclasses import replace

import pytest
import torch
from small import ADAMW, make, write_entry, write_task
from torch.nn import Parameter

from bench import assemble
from bench.battery.ranks import train_together
from bench.battery.tiny import Tiny
from bench.claims import build_entry
from bench.entry import Entry
from bench.errors import BenchError
from bench.roles import Matrix, Run

PARAMETERS = {
    "bf16 weights": (torch.zeros(4, 4, dtype=torch.bfloat16), "is torch.bfloat16, expected torch.float32"),
    "a stack of matrices": (torch.zeros(2, 4, 4), "has shape (2, 4, 4)"),
    "a number": (torch.zeros(()), "has shape ()"),
    "an empty matrix": (torch.zeros(0, 4), "has shape (0, 4)"),
}


def refusal(entry, roles):
    with pytest.raises(BenchError) as caught:
        build_entry(entry, entry.values({}), roles, Run(8, 800, 100, torch.device("cpu"), torch.Generator()))
    return caught.value


@pytest.mark.parametrize("what", PARAMETERS)
@pytest.mark.parametrize("role", ["hidden", "embedding", "head", "vectors"])
def test_a_parameter_that_no_entry_is_written_for_is_named_by_its_role(role, what):
    tensor, message = PARAMETERS[what]
    entry, weight = Entry(ADAMW), Parameter(tensor)
    odd = Matrix(weight, 0, "any", "in", tuple(tensor.shape[:1])) if role == "hidden" else weight
    error = refusal(entry, replace(Tiny(entry).roles, **{role: (odd,)}))
    assert str(ADAMW) in error.what and role in error.what
    if what != "bf16 weights" or role != "vectors":  # a matrix among the vectors is refused for its shape
        assert message in error.what


def test_bf16_weights_are_refused_with_the_reason():
    entry = Entry(ADAMW)
    tiny = Tiny(entry)
    tiny.model.bfloat16()
    assert "weights are kept in fp32" in refusal(entry, tiny.roles).hint


def test_a_sparse_gradient_is_refused_before_the_first_step(tmp_path, monkeypatch):
    honest = assemble.build_model

    def build_model(*arguments):
        model = honest(*arguments)
        model.get_input_embeddings().sparse = True
        return model

    monkeypatch.setattr(assemble, "build_model", build_model)
    with pytest.raises(BenchError, match=r"among the embedding has layout torch\.sparse_coo, expected torch\.strided"):
        make(write_task(tmp_path, tied="false"), ADAMW, tmp_path)
    assert not list(tmp_path.rglob("records/**/*.json"))


FAILS_ON_ONE_RANK = """class Strange(Optimizer):
    @torch.no_grad()
    def step(self):
        (group,) = self.param_groups
        group["steps"] = group.get("steps", 0) + 1
        if group["steps"] == 5:
            for w in group["params"]:
                w.fill_(torch.nan)
        if group["steps"] > 5 and group["params"][0].grad is None:  # the first matrix is another rank's
            torch.linalg.cholesky(torch.full((3, 3), torch.nan))


def build(roles, hp, run):
    return Strange([{"params": roles.matrices}], {"lr": 0.1})
"""


def test_ranks_find_out_together_that_a_run_diverged_where_one_alone_fails_on_it(tmp_path):
    tinies = train_together(Entry(write_entry(tmp_path, FAILS_ON_ONE_RANK)), ranks=2, steps=32)
    assert [tiny.progress.step for tiny in tinies] == [6, 6]
    assert all(tiny.progress.losses[-1] != tiny.progress.losses[-1] for tiny in tinies)
