"""ARO with chain-coupled rotations against a float64 transcription, ARO itself, and what the sharing implies."""

from pathlib import Path

import numpy as np
import pytest
import torch
from open_loop import displacements, furthest_apart, gradients_of, run_of, weights_of
from transcribed import base_map

from bench.entry import Entry
from bench.errors import BenchError
from bench.facts import state_tensors
from bench.linalg.qr import orthogonality_error
from bench.roles import Matrix, Roles

FOLDER = Path(__file__).parents[2] / "baselines"
CHAIN, ALONE = Entry(FOLDER / "aro_chain/aro-chain.toml"), Entry(FOLDER / "aro/aro-sinkhorn.toml")
LAYERS, WIDTH = 2, 32
PARTS = [((32, 32), "in"), ((48, 32), "in"), ((32, 32), "out"), ((32, 48), "out")]  # of a layer: (out, in), residual
SHAPES = [shape for shape, _ in PARTS] * LAYERS
PLACES = [[0, 1], [2, 3, 4, 5], [6, 7]]  # which matrices share a rotation
STILL = {"weight_decay": 0.0, "lr": 0.1}
every_base = pytest.mark.parametrize("base", ["sinkhorn", "sign", "row-norm"])


def optimizer_of(entry, values, weights, parts=PARTS):
    hidden = [Matrix(w, i // len(parts), "any", parts[i % len(parts)][1], (w.shape[0],)) for i, w in enumerate(weights)]
    return entry.module().build(Roles(tuple(hidden), (), (), ()), entry.hyperparameters(entry.values(values)), run_of())


def transcribed(base: str, gradients) -> list[list[torch.Tensor]]:
    def oriented(i: int, x: np.ndarray) -> np.ndarray:
        return x.T if PARTS[i % len(PARTS)][1] == "in" else x

    weights = [w.detach().double().numpy() for w in weights_of(SHAPES)]
    momenta = [np.zeros_like(oriented(i, w)) for i, w in enumerate(weights)]
    rotations = [np.eye(WIDTH) for _ in PLACES]
    moved = []
    for drawn in gradients:
        steps = [torch.empty(0)] * len(weights)
        for place, members in enumerate(PLACES):
            for i in members:
                momenta[i] = 0.95 * momenta[i] + 0.05 * oriented(i, drawn[i].double().numpy())
            wide = np.concatenate([momenta[i] for i in members], axis=1)
            r = rotations[place] = np.linalg.qr(wide @ base_map(rotations[place].T @ wide, base).T)[0]
            for i in members:
                u = r @ base_map(r.T @ momenta[i], base)
                new = (1 - 0.02 * 0.1) * weights[i] - 0.02 * 0.2 * oriented(i, u / np.sqrt(np.mean(u**2)))
                steps[i] = torch.from_numpy(new - weights[i])
                weights[i] = new
        moved.append(steps)
    return moved


@every_base
@pytest.mark.parametrize("qr", ["householder", "cholesky"])
def test_its_steps_are_those_of_the_rule_in_float64(base, qr):
    gradients = gradients_of(SHAPES, seed=2)
    expected = transcribed(base, gradients)
    for dtype, bound in ((torch.float64, 1e-9), (torch.float32, 1e-3)):
        weights = weights_of(SHAPES, dtype)
        optimizer = optimizer_of(CHAIN, {"lr": 0.02, "weight_decay": 0.1, "base": base, "qr": qr}, weights)
        assert furthest_apart(displacements(weights, [optimizer], gradients), expected) < bound


def test_a_place_with_one_matrix_is_aro():
    for residual in ("in", "out"):
        parts = [((32, 48), residual)]
        gradients = gradients_of([(32, 48)])
        moved = []
        for entry in (CHAIN, ALONE):
            weights = weights_of([(32, 48)], torch.float64)
            moved.append(displacements(weights, [optimizer_of(entry, STILL, weights, parts)], gradients))
        assert furthest_apart(*moved) < 1e-9


def test_one_step_worked_by_hand():
    """By signs, of M = [(2, 1; 1, 2), (0; 1)]: f(M) is (1, 1, 0; 1, 1, 1), M f(M)^T is (3, 3; 3, 4), so R has columns
    (1, 1) and (-1, 1) over sqrt(2). R^T M_1 is (3, 3; -1, 1) and R^T M_2 is (1; 1), both over sqrt(2); R times their
    signs is sqrt(2) I and sqrt(2) (0; 1), each of root mean square 1."""
    writer, reader = torch.nn.Parameter(torch.zeros(2, 2)), torch.nn.Parameter(torch.zeros(1, 2))
    hidden = (Matrix(writer, 0, "any", "out", (2,)), Matrix(reader, 1, "any", "in", (1,)))
    hp = CHAIN.hyperparameters(CHAIN.values({**STILL, "base": "sign"}))
    optimizer = CHAIN.module().build(Roles(hidden, (), (), ()), hp, run_of())
    gradients = [torch.tensor([[2.0, 1.0], [1.0, 2.0]]), torch.tensor([[0.0, 1.0]])]
    (moved,) = displacements([writer, reader], [optimizer], [gradients])
    torch.testing.assert_close(moved[0], -0.1 * 0.2 * 2**0.5 * torch.eye(2))
    torch.testing.assert_close(moved[1], -0.1 * 0.2 * 2**0.5 * torch.tensor([[0.0, 1.0]]))


def test_there_is_one_orthonormal_rotation_a_place_and_a_momentum_a_weight():
    weights = weights_of(SHAPES)
    optimizer = optimizer_of(CHAIN, {}, weights)
    displacements(weights, [optimizer], gradients_of(SHAPES, steps=4))
    rotations = [state["rotation"] for state in optimizer.state.values() if "rotation" in state]
    assert [tuple(r.shape) for r in rotations] == [(WIDTH, WIDTH)] * (LAYERS + 1)
    assert max(orthogonality_error(r.double()[None]).item() for r in rotations) < 8e-6
    momenta = 4 * sum(w.numel() for w in weights)
    assert sum(tensor.nbytes for tensor in state_tensors([optimizer])) == momenta + 4 * (LAYERS + 1) * WIDTH**2


@every_base
def test_a_step_has_root_mean_square_update_rms_times_lr_whatever_the_gradients_scale(base):
    gradients = gradients_of(SHAPES, steps=2)
    moved = []
    for scale in (1.0, 1e-8, 1e6):
        weights = weights_of(SHAPES, torch.float64)
        optimizer = optimizer_of(CHAIN, {**STILL, "base": base}, weights)
        moved.append(displacements(weights, [optimizer], [[scale * g for g in drawn] for drawn in gradients]))
        assert furthest_apart(moved[-1], moved[0]) < 1e-6
    for step in moved[0][1]:
        assert step.square().mean().sqrt().item() == pytest.approx(0.2 * 0.1, rel=1e-9)


def test_another_basis_of_the_residual_stream_at_one_place_turns_the_steps_there_and_no_others():
    turn = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(3)).double()).Q
    gradients = [[g.double() for g in drawn] for drawn in gradients_of(SHAPES, steps=2)]

    def turned(i: int, x: torch.Tensor) -> torch.Tensor:
        if i not in PLACES[1]:
            return x
        return x @ turn.mT if PARTS[i % len(PARTS)][1] == "in" else turn @ x

    weights = weights_of(SHAPES, torch.float64)
    plain = displacements(weights, [optimizer_of(CHAIN, STILL, weights)], gradients)[1]
    weights = weights_of(SHAPES, torch.float64)
    optimizer = optimizer_of(CHAIN, STILL, weights)
    displacements(weights, [optimizer], gradients[:1])
    for i in PLACES[1]:
        state = optimizer.state[weights[i]]
        state["momentum"].copy_(turn @ state["momentum"])
        if "rotation" in state:
            state["rotation"].copy_(turn @ state["rotation"])
    (moved,) = displacements(weights, [optimizer], [[turned(i, g) for i, g in enumerate(gradients[1])]])
    for i, (mine, before) in enumerate(zip(moved, plain, strict=True)):
        torch.testing.assert_close(mine, turned(i, before), rtol=0, atol=1e-9)


def test_zero_and_rank_one_gradients_move_by_nothing_and_by_rank_one():
    weights = weights_of(SHAPES)
    (moved,) = displacements(weights, [optimizer_of(CHAIN, STILL, weights)], [[torch.zeros(s) for s in SHAPES]])
    assert max(step.abs().max().item() for step in moved) == 0
    line = torch.outer(torch.linspace(-1, 2, 32), torch.linspace(1, 3, 32))
    (w,) = weights_of([(32, 32)])
    ((moved,),) = displacements([w], [optimizer_of(CHAIN, STILL, [w])], [[line]])
    first, second = torch.linalg.svdvals(moved)[:2]
    assert second < 1e-5 * first


@pytest.mark.parametrize("name", ["base", "qr"])
def test_an_unknown_form_is_refused(name):
    with pytest.raises(BenchError, match=f"{name} is 'signs', expected one of"):
        CHAIN.hyperparameters(CHAIN.values({name: "signs"}))
