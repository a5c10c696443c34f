"""What a mode of a finished checkpoint holds: one copy of the model, and what one layer takes."""

import gc
import weakref

import pytest
import torch
from checkpoints import lying, model_of

from bench.battery.tiny import TINY, batch_at
from bench.diagnose import propagation, quantization
from bench.diagnose.outliers import weight_outliers
from bench.evaluate.after import measure_modes
from bench.evaluate.weights import Checkpoint, keep, on_disk, read_model
from bench.mode import read_mode
from bench.quantize.after import apply
from bench.quantize.calibration import Calibration
from bench.quantize.linear import expected

SCORE = batch_at(100).numpy()
CALIBRATION = Calibration(torch.cat([batch_at(step) for step in range(2)]).numpy())


def test_float_weights_are_asked_for_once_a_mode_and_never_two_at_a_time():
    alive = []

    def load():
        assert not [model for model in alive if model() is not None]
        model = model_of(TINY)
        alive.append(weakref.ref(model))
        return model

    names = ["ptq-w4", "ptq-w3"]
    for _ in measure_modes(Checkpoint(load, lying(TINY).weight), names, None, SCORE, 8, "a" * 64):
        pass
    assert len(alive) == 2


def test_beside_the_model_no_more_is_held_than_one_layers_weight_and_what_it_reads(tmp_path):
    spec = TINY.model_copy(update={"layers": 24})
    folder = keep(model_of(spec), tmp_path, "many-layers")
    gc.collect()
    before, held = set(live()), []

    def model():
        loaded = read_model(folder, spec.attention)
        held.append(sum(weight.nbytes for weight in loaded.parameters()))
        return loaded

    checkpoint = on_disk(folder, model)
    last = expected(model_of(spec))[-1]

    def weight(name):
        found = checkpoint.weight(name)
        if name == last:
            held.append(sum(size for place, size in live().items() if place not in before))
        return found

    for _ in measure_modes(Checkpoint(model, weight), ["ptq-w4a4", "ptq-w4-gptq"], CALIBRATION, SCORE[:1], 1, "a" * 64):
        pass
    assert len(held) == 6  # a model, then its last layer twice: it runs, and its spectral norm is taken
    size = held[0]
    assert all(size < one < 1.3 * size for at, one in enumerate(held) if at % 3), [one / size for one in held]


def live():
    """The bytes of every tensor's storage, by where it lies."""
    tensors = [one for one in gc.get_objects() if type(one) in (torch.Tensor, torch.nn.Parameter) and not one.is_meta]
    return {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in tensors}


@pytest.mark.parametrize("name", ["ptq-w4", "ptq-w4-gptq", "ptq-mixed-4"])
def test_no_weight_takes_a_gradient_or_autocast_would_keep_a_copy_of_it(name):
    model = model_of(TINY)
    apply(model, read_mode(name), CALIBRATION)
    assert not any(weight.requires_grad for weight in model.parameters())


def test_what_is_of_the_float_model_is_found_once_for_modes_of_one_rotation(monkeypatch):
    blocks = []

    def counted(model, block=0):
        blocks.append(block)
        return weight_outliers(model, block)

    norms = []

    def spectral_norm(weight, own=propagation.spectral_norm):
        norms.append(weight.shape)
        return own(weight)

    monkeypatch.setattr(quantization, "weight_outliers", counted)
    monkeypatch.setattr(propagation, "spectral_norm", spectral_norm)
    names = ["ptq-w4", "ptq-w3", "ptq-w4a4-hadamard"]
    found = {name: told for name, _, told in measure_modes(lying(TINY), names, None, SCORE, 8, "a" * 64)}
    assert blocks == [0, 128]
    layers = len(expected(model_of(TINY)))
    assert len(norms) == 1 + 5 * layers  # the head's, the float ones' plain and rotated, and each mode's middle
    ((_, _, alone),) = measure_modes(lying(TINY), ["ptq-w3"], None, SCORE, 8, "a" * 64)
    assert found["ptq-w3"] == alone and found["ptq-w4a4-hadamard"].weights != alone.weights
