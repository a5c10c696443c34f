"""GaLore and Fira against pytorch_optimizer's on the same gradients, and what their rules imply."""

from itertools import pairwise
from pathlib import Path

import pytest
import pytorch_optimizer
import torch
from open_loop import (
    MATRICES,
    SQUARE,
    TALL,
    WIDE,
    displacements,
    furthest_apart,
    gradients_of,
    of_entry,
    of_library,
    roles_with,
    run_of,
    weights_of,
)
from pytorch_optimizer.optimizer.utils.galore import GaLoreProjector

from bench.battery.tiny import Tiny, equal
from bench.entry import Entry
from bench.errors import BenchError

FOLDER = Path(__file__).parents[2] / "baselines"
GALORE, FIRA = Entry(FOLDER / "galore/galore.toml"), Entry(FOLDER / "fira/fira.toml")
every_entry = pytest.mark.parametrize("entry", [GALORE, FIRA], ids=lambda entry: entry.name)
PLAIN = {"lr": 1e-2, "weight_decay": 0.0, "rank": 0.5, "subspace_frequency": 6}  # new bases at steps 1, 7, 13


def built(entry, shape, dtype=torch.float64, **values):
    weights = weights_of([shape], dtype)
    hp = entry.hyperparameters(entry.values({**PLAIN, **values}))
    return weights[0], entry.module().build(roles_with(weights), hp, run_of())


@pytest.fixture
def decomposed_alike(monkeypatch):
    """Let the library decompose in float64, as we do, and give its singular vectors the signs of ours."""

    def found(self, weights, projection_type, from_random_matrix=False):
        u, _, vh = torch.linalg.svd(weights.double(), full_matrices=False)
        vectors = (vh.mT if projection_type == "right" else u)[:, : self.rank].to(weights.dtype)
        signed = vectors * vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True)).sign()
        return signed.mT if projection_type == "right" else signed

    monkeypatch.setattr(GaLoreProjector, "get_orthogonal_matrix", found)


def of_pytorch_optimizer(entry, weights, **settings):
    """It renews bases at the first step and at multiples of the gap: of 7 at 1 and 7, as ours, and at 14."""
    shared = {"update_proj_gap": 7, "scale": 0.25, "projection_type": "std"}
    groups = [{"params": [w], "rank": min(w.shape) // 2, **shared} for w in weights]
    make = pytorch_optimizer.GaLore if entry is GALORE else pytorch_optimizer.Fira
    return make(groups, lr=1e-2, betas=(0.9, 0.999), eps=1e-6, **settings)


@every_entry
@pytest.mark.parametrize("dtype, bound", [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_its_steps_are_those_of_pytorch_optimizer_s(entry, dtype, bound, decomposed_alike):
    """With its own decomposition in fp32 they are 1.4e-4 apart: Adam's first steps are steep where R is near 0."""
    gradients = gradients_of(MATRICES)
    theirs = of_library(lambda weights: of_pytorch_optimizer(entry, weights), gradients, dtype)
    assert furthest_apart(of_entry(entry, PLAIN, gradients, dtype), theirs) < bound


@every_entry
def test_its_decay_differs_from_pytorch_optimizer_s_by_the_square_of_the_rate(entry, decomposed_alike):
    """Theirs comes after the step: (1 - a) (W - lr U); ours before it: (1 - a) W - lr U, where a = lr weight_decay."""
    gradients, decay = gradients_of([SQUARE], steps=1), 1e-2 * 0.1
    mine = of_entry(entry, {**PLAIN, "weight_decay": 0.1}, gradients, torch.float64)
    plain = of_entry(entry, PLAIN, gradients, torch.float64)
    theirs = of_library(
        lambda weights: of_pytorch_optimizer(entry, weights, weight_decay=0.1), gradients, torch.float64
    )
    assert furthest_apart([[mine[0][0] - decay * plain[0][0]]], theirs) < 1e-4


def test_one_step_of_galore_worked_by_hand():
    """(3, 0; 0, 1) has the singular vectors (1, 0) and (0, 1); at half the rank it is projected to R = (3, 0). Adam's
    first step is R's sign, and the scale is a quarter."""
    gradient = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    ((moved,),) = of_entry(GALORE, {**PLAIN, "lr": 0.4, "eps": 1e-12}, [[gradient]], torch.float64)
    torch.testing.assert_close(moved, torch.diag(torch.tensor([-0.1, 0.0], dtype=torch.float64)))


def test_one_step_of_fira_worked_by_hand():
    """The same gradient: with bias corrected u = (1, 0), so phi = (1 / 3, 0). The paper's residual (0, 0; 0, 1) meets
    phi's 0; the code's keeps 3 (1 - 1/4) of the entry 3, times 1 / 3."""
    gradient = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    values = {**PLAIN, "lr": 0.4, "eps": 1e-12}
    for residual, expected in (("paper", 0.1), ("code", 0.1 + 0.4 * 0.75)):
        ((moved,),) = of_entry(FIRA, {**values, "residual": residual}, [[gradient]], torch.float64)
        torch.testing.assert_close(moved, torch.diag(torch.tensor([-expected, 0.0], dtype=torch.float64)))


@pytest.mark.parametrize("values", [{"residual": "paper"}, {"residual": "code", "alpha": 1.0}])
def test_fira_at_full_rank_is_galore(values):
    """No residual is left; the code's form leaves 1 - alpha of the gradient."""
    gradients = gradients_of(MATRICES)
    whole = {**PLAIN, "rank": 1.0}
    galore = {"scale": values.get("alpha", 0.25)}
    plain = of_entry(GALORE, {**whole, **galore}, gradients, torch.float64)
    assert furthest_apart(of_entry(FIRA, {**whole, **values}, gradients, torch.float64), plain) < 1e-6
    assert furthest_apart(of_entry(FIRA, {**whole, "residual": "code"}, gradients, torch.float64), plain) > 0.1


@pytest.mark.parametrize("shape", MATRICES)
def test_the_norm_of_fira_s_residual_grows_by_the_limit_a_step_at_most(shape):
    w, optimizer = built(FIRA, shape)
    norms = []
    for step in gradients_of([shape]):
        displacements([w], [optimizer], [step])
        norms.append(float(optimizer.state[w]["residual_norm"]))
    assert norms[0] > 0
    assert all(later <= 1.01 * (earlier + 1e-8) * (1 + 1e-12) for earlier, later in pairwise(norms))
    assert norms[2] == 0  # the gradient of zeros
    assert norms[-1] < 1e-6  # from which it does not recover


def test_equal_columns_have_equal_residuals_in_fira():
    gradient = torch.randn(WIDE, generator=torch.Generator().manual_seed(0))
    gradient[:, 5] = gradient[:, 3]
    ((moved,),) = of_entry(FIRA, PLAIN, [[gradient]], torch.float64)
    torch.testing.assert_close(moved[:, 5], moved[:, 3], rtol=1e-6, atol=1e-12)


@every_entry
@pytest.mark.parametrize("shape", MATRICES)
def test_turned_gradients_give_turned_steps_on_the_projected_side(entry, shape):
    """step(A G) = A step(G): the basis turns with the gradients, and Adam sees the same; signs of u and of R agree."""
    gradients = [step for step in gradients_of([shape], steps=6) if step[0].any()]
    side = min(shape)
    turn = torch.linalg.qr(torch.randn(side, side, generator=torch.Generator().manual_seed(5)).double())[0]
    tall = shape[0] >= shape[1]
    turned = [[g.double() @ turn.mT if tall else turn @ g.double()] for (g,) in gradients]
    values = {**PLAIN, "subspace_frequency": 100}
    plain = of_entry(entry, values, gradients, torch.float64)
    expected = [[m @ turn.mT if tall else turn @ m] for (m,) in plain]
    assert furthest_apart(of_entry(entry, values, turned, torch.float64), expected) < 1e-6


@every_entry
@pytest.mark.parametrize("shape, rank", [(SQUARE, 0.25), (TALL, 0.5), (WIDE, 0.5)])
def test_state_has_the_bytes_that_it_says(entry, shape, rank):
    w, optimizer = built(entry, shape, torch.float32, rank=rank)
    displacements([w], [optimizer], gradients_of([shape], steps=2))
    m, n = sorted(shape)
    expected = 4 * (rank * m * m + 2 * rank * m * n) + (4 if entry is FIRA else 0)
    assert sum(tensor.nbytes for tensor in optimizer.state[w].values()) == expected


@every_entry
def test_resuming_across_a_new_projection_equals_never_stopping(entry):
    values = {"subspace_frequency": 5}
    straight = Tiny(entry, steps=14, values=values).train()
    stopped = Tiny(entry, steps=14, values=values).train(stop_after=4)
    assert equal(straight, Tiny(entry, steps=14, values=values).restored(stopped.state()).train())


@every_entry
@pytest.mark.parametrize("rank", [0.0, 1.5])
def test_a_rank_that_is_no_part_of_a_side_is_refused(entry, rank):
    with pytest.raises(BenchError, match=f"rank is {rank}, expected a part"):
        entry.hyperparameters(entry.values({"rank": rank}))
