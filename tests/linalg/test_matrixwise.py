"""The shell of matrix methods: what update() sees, that state follows its weight, and that stacks are bounded."""

import pytest
import torch
from open_loop import roles_with, weights_of
from torch.nn import Parameter

from bench.linalg import matrixwise
from bench.linalg.matrixwise import Matrixwise

SHAPES = [(4, 6), (5, 5), (6, 4), (4, 6)]


class Counting(Matrixwise):
    """Its update is the sum of the gradients so far; it notes the stacks that it sees."""

    def __init__(self, matrices, flip=False, **defaults):
        self.flip, self.seen = flip, []
        super().__init__(matrices, {"lr": 1.0, **defaults})

    def begin(self, gradients, group):
        return {"sum": torch.zeros_like(gradients)}

    def update(self, gradients, state, group):
        self.seen.append(tuple(gradients.shape))
        return state["sum"].add_(gradients)

    def size(self, rows, columns):
        return rows / columns

    def flipped(self, matrix, rows, columns):
        return self.flip and rows > columns


class Decaying(Counting):
    """Every column has a decay of its own, which the learning rate has no part in."""

    def update(self, gradients, state, group):
        return gradients, torch.linspace(0.1, 0.2, gradients.shape[-1]).repeat(len(gradients), 1, 1)


def stepped(weights, gradients, **options):
    optimizer = Counting(roles_with(weights, options.pop("blocks", None)).hidden, **options)
    for w, g in zip(weights, gradients, strict=True):
        w.grad = g
    optimizer.step()
    return optimizer


@pytest.mark.parametrize("flip, stacks", [(False, [(1, 5, 5), (1, 6, 4), (2, 4, 6)]), (True, [(1, 5, 5), (3, 4, 6)])])
def test_blocks_of_a_shape_are_stepped_together_and_come_back_in_place(flip, stacks):
    weights, gradients = weights_of(SHAPES), [g.detach() for g in weights_of(SHAPES, seed=1)]
    before = [w.detach().clone() for w in weights]
    optimizer = stepped(weights, gradients, flip=flip)
    optimizer.step()
    assert sorted(optimizer.seen[: len(stacks)]) == stacks
    for w, old, g in zip(weights, before, gradients, strict=True):
        torch.testing.assert_close(w.detach(), old - (1 + 2) * w.shape[0] / w.shape[1] * g)


@pytest.mark.parametrize("late", [0, 1])
def test_a_weight_whose_gradient_comes_late_begins_then_and_disturbs_none(late):
    weights = weights_of([(4, 6), (4, 6)])
    optimizer = Counting(roles_with(weights).hidden)
    for step in range(3):
        for place, w in enumerate(weights):
            w.grad = None if step == 0 and place == late else torch.ones_like(w)
        optimizer.step()
    sums = [float(optimizer.state[w]["sum"].mean()) for w in weights]
    assert sums[late] == 2 and sums[1 - late] == 3
    assert optimizer.seen == [(1, 4, 6), (1, 4, 6), (1, 4, 6), (2, 4, 6)]


@pytest.mark.parametrize("flip", [False, True])
def test_a_decay_that_comes_with_the_step_takes_the_place_of_lr_weight_decay(flip):
    weights, gradients = weights_of(SHAPES), [g.detach() for g in weights_of(SHAPES, seed=1)]
    before = [w.detach().clone() for w in weights]
    optimizer = Decaying(roles_with(weights).hidden, flip=flip, weight_decay=0.5)
    for w, g in zip(weights, gradients, strict=True):
        w.grad = g
    optimizer.step()
    for w, old, g in zip(weights, before, gradients, strict=True):
        rows, columns = w.shape
        turned = flip and rows > columns
        kept = 1 - torch.linspace(0.1, 0.2, rows if turned else columns)
        kept = kept[:, None] if turned else kept[None]
        torch.testing.assert_close(w.detach(), kept * old - rows / columns * g)


def test_decay_follows_the_learning_rate_and_comes_before_the_step():
    (w,) = weights_of([(4, 4)])
    before, gradient = w.detach().clone(), torch.ones(4, 4)
    stepped([w], [gradient], lr=0.5, weight_decay=0.1)
    torch.testing.assert_close(w.detach(), before * 0.95 - 0.5 * gradient)


def test_a_fused_weight_is_its_blocks_and_its_state_has_one_of_each():
    (w,) = weights_of([(12, 4)])
    optimizer = stepped([w], [torch.ones(12, 4)], blocks=(4, 4, 4))
    assert optimizer.seen == [(3, 4, 4)] and optimizer.state[w]["sum"].shape == (3, 4, 4)


def test_a_weight_without_a_gradient_is_passed_over(monkeypatch):
    weights = weights_of(SHAPES)
    before = weights[0].detach().clone()
    optimizer = stepped(weights, [None, *(torch.ones_like(w) for w in weights[1:])])
    assert torch.equal(weights[0], before) and not optimizer.state[weights[0]]


def test_stacks_are_bounded_and_the_bits_do_not_depend_on_the_bound(monkeypatch):
    results = []
    for bound in (2**24, 48, 1):
        monkeypatch.setattr(matrixwise, "STACK_ELEMENTS", bound)
        weights = weights_of([(4, 6)] * 5)
        optimizer = stepped(weights, [g.detach() for g in weights_of([(4, 6)] * 5, seed=1)])
        results.append((optimizer.seen, [w.detach() for w in weights]))
    assert [seen for seen, _ in results] == [[(5, 4, 6)], [(2, 4, 6), (2, 4, 6), (1, 4, 6)], [(1, 4, 6)] * 5]
    for _, weights in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(weights, results[0][1], strict=True))


def test_parameters_that_are_no_leaf_of_a_stack_keep_their_storage():
    w = Parameter(torch.ones(4, 4))
    address = w.data_ptr()
    stepped([w], [torch.ones(4, 4)])
    assert w.data_ptr() == address


def test_the_state_of_a_stack_is_no_copy_but_after_loading_where_it_is_joined_again():
    weights, gradients = weights_of([(4, 6)] * 2), [g.detach() for g in weights_of([(4, 6)] * 2, seed=1)]
    optimizer = stepped(weights, gradients)
    first, second = (optimizer.state[w]["sum"] for w in weights)
    assert second.data_ptr() == first.data_ptr() + first.nbytes
    loaded = Counting(roles_with(weights).hidden)
    loaded.load_state_dict(optimizer.state_dict())
    for w in weights:
        loaded.state[w]["sum"] = loaded.state[w]["sum"].clone()
    for owner in (optimizer, loaded):
        owner.step()
    for w in weights:
        assert torch.equal(optimizer.state[w]["sum"], loaded.state[w]["sum"])
    assert [optimizer.state[w]["sum"].data_ptr() for w in weights] == [first.data_ptr(), second.data_ptr()]


def test_an_update_of_none_moves_nothing():
    class Looking(Counting):
        def update(self, gradients, state, group):
            super().update(gradients, state, group)

    (w,) = weights_of([(4, 4)])
    before = w.detach().clone()
    optimizer = Looking(roles_with([w]).hidden, weight_decay=0.5)
    w.grad = torch.ones(4, 4)
    optimizer.step()
    assert torch.equal(w, before) and torch.equal(optimizer.state[w]["sum"], torch.ones(1, 4, 4))
