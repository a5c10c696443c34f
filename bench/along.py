"""How a model's logits change as its weights move along a direction: their Jacobian-vector product, in fp32.

    a = d z(w + s v) / ds  at s = 0            z logits, w weights, v direction

By forward-mode differentiation; where the attention kernel has none, with attention written out (SDPA's math kernel);
where another part has none, by central differences (z(w + h v) - z(w - h v)) / 2h.

Shapes: B sequences, T tokens predicted, D width, V padded vocabulary.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call
from torch.nn import Parameter
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel

Way = Literal["forward mode", "forward mode, math attention", "finite differences"]
WAYS: tuple[Way, ...] = ("forward mode", "forward mode, math attention")
Reduce = Callable[[Tensor], Tensor]  # (1, T, V) of a sequence -> (1, ...)
STEP = 5e-3  # h |v| over |w|: about the cube root of fp32's precision, where both errors are some 3e-5


class Logits(nn.Module):
    """A model's logits from fp32 products, reduced sequence by sequence: all at once are too many to hold."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs_BT: Tensor, reduced: Reduce) -> Tensor:
        hidden_BTD = self.model.base_model(input_ids=inputs_BT).last_hidden_state
        head = self.model.get_output_embeddings()
        return torch.cat([reduced(head(hidden_1TD)) for hidden_1TD in hidden_BTD.split(1)])


class Along:
    """A model's derivative; `way`, found at the first call, is how it is taken."""

    def __init__(self, model: PreTrainedModel, way: Way | None = None) -> None:
        self._logits = Logits(model)
        self.way = way

    @torch.no_grad()
    def __call__(self, inputs_BT: Tensor, direction: Mapping[Parameter, Tensor], reduced: Reduce) -> Tensor:
        """Return reduced(a) of each sequence, (B, ...); weights that the direction leaves out stand still."""
        if self.way is None:
            self.way = self._first_way(inputs_BT[:1], direction)
        if self.way == "finite differences":
            return self._differences(inputs_BT, direction, reduced)
        return self._forward_mode(self.way, inputs_BT, direction, reduced)

    def _first_way(self, inputs_1T: Tensor, direction: Mapping[Parameter, Tensor]) -> Way:
        """Try forward mode on one sequence, with attention as it is and then written out."""
        for way in WAYS:
            try:
                self._forward_mode(way, inputs_1T, direction, lambda a: a[:, :1, 0])
            except NotImplementedError:  # as torch says that an operation has no forward mode
                continue
            return way
        return "finite differences"

    def _forward_mode(
        self, way: Way, inputs_BT: Tensor, direction: Mapping[Parameter, Tensor], reduced: Reduce
    ) -> Tensor:
        def tangent(logits: Tensor) -> Tensor:
            found = forward_ad.unpack_dual(logits).tangent
            return reduced(torch.zeros_like(logits) if found is None else found)

        attention = sdpa_kernel(SDPBackend.MATH) if way == "forward mode, math attention" else nullcontext()
        with attention, forward_ad.dual_level():
            weights = {
                name: forward_ad.make_dual(w.detach(), direction[w]) if w in direction else w.detach()
                for name, w in self._logits.named_parameters()
            }
            result: Tensor = functional_call(self._logits, weights, (inputs_BT, tangent))
        return result

    def _differences(self, inputs_BT: Tensor, direction: Mapping[Parameter, Tensor], reduced: Reduce) -> Tensor:
        length = torch.nn.utils.get_total_norm(list(direction.values()))
        size = torch.nn.utils.get_total_norm([w.detach() for w in direction])
        h = float(STEP * size / length) if length else 1.0
        rows = []
        for sequence_1T in inputs_BT.split(1):
            ends = []
            for moved in (h, -h):
                with weights_at({w: w + moved * v for w, v in direction.items()}):
                    ends.append(self._logits(sequence_1T, lambda logits: logits))
            rows.append(reduced((ends[0] - ends[1]) / (2 * h)))
        return torch.cat(rows)


@contextmanager
def weights_at(values: Mapping[Parameter, Tensor]) -> Iterator[None]:
    """Put other values in some weights' place, and afterwards what was there, bit for bit."""
    before = {w: w.detach().clone() for w in values}
    try:
        _put(values)
        yield
    finally:
        _put(before)


@torch.no_grad()
def _put(values: Mapping[Parameter, Tensor]) -> None:
    for w, value in values.items():
        w.copy_(value)
