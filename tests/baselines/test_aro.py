"""ARO against a float64 transcription of its rule, and what the rule implies."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from open_loop import displacements, furthest_apart, gradients_of, of_entry, roles_with, run_of, weights_of
from transcribed import base_map

from bench.entry import Entry, Value
from bench.errors import BenchError
from bench.linalg.qr import orthogonality_error

FOLDER = Path(__file__).parents[2] / "baselines/aro"
SINKHORN, SIGN, ROW_NORM, ADAM, EIGEN = (
    Entry(FOLDER / f"{name}.toml")
    for name in ("aro-sinkhorn", "aro-sign", "aro-row-norm", "aro-adam", "eigen-sinkhorn")
)
# Matrices of signs with few columns are often singular, and the rule then leaves the rotation open.
MATRICES = [(48, 32), (32, 48), (32, 32)]
EIGEN_ADAM: dict[str, Value] = {"rotation": "eigen"}
STILL: dict[str, Value] = {"weight_decay": 0.0, "lr": 0.1}

every_form = pytest.mark.parametrize(
    ("entry", "values"),
    [(SINKHORN, {}), (SIGN, {}), (ROW_NORM, {}), (ADAM, {}), (EIGEN, {}), (ADAM, EIGEN_ADAM)],
    ids=["sinkhorn", "sign", "row-norm", "adam", "eigen", "eigen-adam"],
)  # fmt: skip


def optimizer_of(entry, values, weights, residual="in"):
    roles = roles_with(weights)
    roles = replace(roles, hidden=tuple(replace(matrix, residual=residual) for matrix in roles.hidden))
    return entry.module().build(roles, entry.hyperparameters(entry.values({**STILL, **values})), run_of())


def based(x: np.ndarray, second: np.ndarray, v: dict[str, Value]) -> tuple[np.ndarray, np.ndarray]:
    """Return the base map of x, and Adam's second moment with x in it."""
    second = v["beta2"] * second + (1 - v["beta2"]) * x**2
    return (x / np.sqrt(second) if v["base"] == "adam" else base_map(x, v["base"], v["sinkhorn_rounds"])), second


def transcribed(entry: Entry, values: dict[str, Value], gradients) -> list[list[torch.Tensor]]:
    """Equation 4 in float64, on residual x other; a weight (out, in) has the residual stream in its input."""
    v = entry.values(values)
    weights = [w.detach().double().numpy().T for w in weights_of([tuple(g.shape) for g in gradients[0]])]
    momenta = [np.zeros_like(w) for w in weights]
    seconds = [np.zeros((min(w.shape), w.shape[1])) for w in weights]
    rotations = [np.eye(w.shape[0], min(w.shape)) for w in weights]
    moved = []
    for drawn in gradients:
        steps = []
        for i, g in enumerate(drawn):
            m = momenta[i] = v["momentum"] * momenta[i] + (1 - v["momentum"]) * g.double().numpy().T
            rotated = rotations[i].T @ m
            guide = rotated if v["rotation"] == "eigen" else based(rotated, seconds[i], v)[0]
            r = rotations[i] = np.linalg.qr(m @ guide.T)[0]
            step, seconds[i] = based(r.T @ m, seconds[i], v)
            u = r @ step
            new = (1 - v["lr"] * v["weight_decay"]) * weights[i]
            new = new - v["lr"] * v["update_rms"] * u / np.sqrt(np.mean(u**2))
            steps.append(torch.from_numpy(new - weights[i]).mT)
            weights[i] = new
        moved.append(steps)
    return moved


@every_form
@pytest.mark.parametrize("qr", ["householder", "cholesky"])
def test_its_steps_are_those_of_the_rule_in_float64(entry, values, qr):
    gradients = gradients_of(MATRICES, seed=2)
    expected = transcribed(entry, values, gradients)
    values = {**values, "qr": qr}
    assert furthest_apart(of_entry(entry, values, gradients, torch.float64), expected) < 1e-9
    steps = -1 if entry is ADAM else None  # on a gradient a thousand times larger Adam's map is nearly one of signs
    assert furthest_apart(of_entry(entry, values, gradients)[:steps], expected[:steps]) < 1e-3


def test_one_step_worked_by_hand():
    """f(M) is all ones and M f(M)^T all alike, so R is (1, 1), (1, -1) over sqrt(2), R^T M is (3, 3), (1, -1) over
    sqrt(2) up to scale, and R f(R^T M) is sqrt(2) I, of root mean square 1."""
    gradient = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
    ((moved,),) = of_entry(SIGN, STILL, [[gradient]])
    torch.testing.assert_close(moved, -0.1 * 0.2 * 2**0.5 * torch.eye(2))


@every_form
def test_the_root_mean_square_of_a_step_is_update_rms_times_lr_and_the_scale_of_gradients_is_nothing(entry, values):
    gradients = gradients_of(MATRICES, steps=2, seed=2)
    values = {**STILL, **values}
    moved = of_entry(entry, values, gradients, torch.float64)
    for steps in moved:
        for step in steps:
            assert step.square().mean().sqrt().item() == pytest.approx(0.2 * 0.1, rel=1e-9)
    for scale in (1e-8, 1e6):
        scaled = [[scale * g for g in drawn] for drawn in gradients]
        assert furthest_apart(of_entry(entry, values, scaled, torch.float64), moved) < 1e-5


@every_form
@pytest.mark.parametrize("qr", ["householder", "cholesky"])
def test_the_rotation_stays_orthonormal(entry, values, qr):
    weights = weights_of(MATRICES)
    optimizer = optimizer_of(entry, {**values, "qr": qr}, weights)
    displacements(weights, [optimizer], gradients_of(MATRICES))
    for w in weights:
        assert orthogonality_error(optimizer.state[w]["rotation"].double()).max() < 8e-6


def with_spectrum_1_over_k(n: int) -> torch.Tensor:
    u, v = (torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(s)).double()).Q for s in (0, 1))
    return u @ (1 / torch.arange(1, n + 1, dtype=torch.float64)).diag() @ v.mT


def test_with_rows_of_one_norm_and_a_fixed_momentum_it_tends_to_the_polar_factor():
    gradient = with_spectrum_1_over_k(256)
    moved = of_entry(ROW_NORM, STILL, [[gradient]] * 20, torch.float64)
    u, _, vh = torch.linalg.svd(gradient)
    cosines = {t: -torch.cosine_similarity(moved[t - 1][0].ravel(), (u @ vh).ravel(), dim=0).item() for t in (1, 5, 20)}
    assert cosines == pytest.approx({1: 0.927, 5: 0.996, 20: 0.9998}, abs=2e-3)


def test_with_the_base_map_left_out_the_rotation_is_a_power_iteration():
    gradient = with_spectrum_1_over_k(6)
    weights = weights_of([(6, 6)], torch.float64)
    optimizer = optimizer_of(EIGEN, {}, weights, residual="out")
    power = torch.eye(6, dtype=torch.float64)
    for _ in range(4):
        displacements(weights, [optimizer], [[gradient]])
        power = gradient @ gradient.mT @ power
        rotation, expected = optimizer.state[weights[0]]["rotation"][0], torch.linalg.qr(power).Q
        torch.testing.assert_close((rotation.mT @ expected).abs(), torch.eye(6).double(), rtol=0, atol=1e-9)
    displacements(weights, [optimizer], [[gradient]] * 60)
    rotation = optimizer.state[weights[0]]["rotation"][0]
    values = rotation.mT @ gradient @ gradient.mT @ rotation
    torch.testing.assert_close(values, values.diagonal().diag(), rtol=0, atol=1e-9)


@every_form
def test_signs_of_the_rotation_s_columns_cancel_and_a_rotated_residual_stream_gives_rotated_steps(entry, values):
    rotation = torch.linalg.qr(torch.randn(32, 32, generator=torch.Generator().manual_seed(3)).double()).Q
    signs = torch.tensor([1.0, -1.0] * 16).double()
    gradients = gradients_of([(32, 40)], steps=2)
    gradients = [[g.double() for g in drawn] for drawn in gradients]

    def last_step(turned: torch.Tensor, flipped: torch.Tensor) -> torch.Tensor:
        """Take one step, change the state, and take the next in turned coordinates."""
        weights = weights_of([(32, 40)], torch.float64)
        optimizer = optimizer_of(entry, values, weights, residual="out")
        displacements(weights, [optimizer], gradients[:1])
        state = optimizer.state[weights[0]]
        state["momentum"].copy_(turned @ state["momentum"])
        state["rotation"].copy_(turned @ state["rotation"] * flipped)
        ((moved,),) = displacements(weights, [optimizer], [[turned @ gradients[1][0]]])
        return moved

    still, same = torch.eye(32).double(), torch.ones(32).double()
    plain = last_step(still, same)
    torch.testing.assert_close(last_step(still, signs), plain, rtol=0, atol=1e-9)
    torch.testing.assert_close(last_step(rotation, same), rotation @ plain, rtol=0, atol=1e-9)


@every_form
def test_the_residual_stream_lies_on_the_rows(entry, values):
    gradients = gradients_of([(32, 48), (48, 32)])
    turned = [[g.mT for g in drawn] for drawn in gradients]
    readers, writers = weights_of([(32, 48), (48, 32)]), weights_of([(48, 32), (32, 48)])
    for reader, writer in zip(readers, writers, strict=True):
        writer.data.copy_(reader.data.mT)
    reading = displacements(readers, [optimizer_of(entry, values, readers, "in")], gradients)
    optimizer = optimizer_of(entry, values, writers, "out")
    writing = displacements(writers, [optimizer], turned)
    assert furthest_apart([[step.mT for step in steps] for steps in writing], reading) < 1e-5
    assert [tuple(optimizer.state[w]["rotation"].shape) for w in writers] == [(1, 48, 32), (1, 32, 32)]


@every_form
def test_a_gradient_of_rank_one_moves_the_weight_by_rank_one(entry, values):
    gradient = torch.outer(torch.linspace(-1, 2, 16), torch.linspace(1, 3, 24))
    for qr in ("householder", "cholesky"):
        ((moved,),) = of_entry(entry, {**STILL, **values, "qr": qr}, [[gradient]])
        first, second = torch.linalg.svdvals(moved)[:2]
        assert second < 1e-5 * first


def test_a_weight_of_several_blocks_steps_as_its_blocks_would_alone():
    fused = gradients_of([(24, 8)], steps=4)
    whole = of_entry(SINKHORN, STILL, fused, torch.float64, blocks=(8, 8, 8))
    parts = of_entry(SINKHORN, STILL, [[*step[0].split(8)] for step in fused], torch.float64)
    for (together,), apart in zip(whole, parts, strict=True):
        for part, alone in zip(together.split(8), apart, strict=True):
            torch.testing.assert_close(part, alone, rtol=0, atol=1e-9)


@every_form
def test_state_is_a_momentum_and_a_rotation_of_the_residual_dimension(entry, values):
    """Bytes per parameter: 4 + 4 m / n, with m rows of the residual stream and n columns, m <= n; 4 more with Adam."""
    for (rows, columns), expected in {(16, 16): 8.0, (24, 8): 4 + 4 * 8 / 24}.items():
        (w,) = weights = weights_of([(rows, columns)])
        optimizer = optimizer_of(entry, values, weights)
        displacements(weights, [optimizer], gradients_of([(rows, columns)], steps=1))
        assert sum(tensor.nbytes for tensor in optimizer.state[w].values()) / w.numel() == pytest.approx(
            expected + 4 * (entry is ADAM)
        )


def test_with_adam_the_first_step_is_that_of_signs():
    """V is then the square of what it divides, at either rotation."""
    gradients = gradients_of(MATRICES, steps=1, seed=2)
    adam, sign = (of_entry(entry, STILL, gradients, torch.float64) for entry in (ADAM, SIGN))
    assert furthest_apart(adam, sign) < 1e-9


def test_the_second_moment_is_what_the_new_rotation_sees():
    gradients = gradients_of([(32, 48)], steps=2)
    weights = weights_of([(32, 48)], torch.float64)
    optimizer = optimizer_of(ADAM, {}, weights, residual="out")
    expected = torch.zeros(32, 48, dtype=torch.float64)
    for drawn in gradients:
        displacements(weights, [optimizer], [drawn])
        state = optimizer.state[weights[0]]
        expected = 0.95 * expected + 0.05 * (state["rotation"][0].mT @ state["momentum"][0]) ** 2
        torch.testing.assert_close(state["second"][0], expected)


@pytest.mark.parametrize("name", ["base", "rotation", "qr"])
def test_an_unknown_form_is_refused(name):
    with pytest.raises(BenchError, match=f"{name} is 'signs', expected one of"):
        SIGN.hyperparameters(SIGN.values({name: "signs"}))
