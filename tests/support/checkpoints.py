"""Float models of any shape, as the modes of finished checkpoints take them up."""

from bench.battery.tiny import CONTEXT
from bench.evaluate.weights import Checkpoint
from bench.model import build_model


def model_of(spec):
    return build_model(spec, CONTEXT, seed=0).eval()


def lying(spec):
    """Return a checkpoint that is made anew whenever it is asked for."""
    floats = model_of(spec)
    return Checkpoint(lambda: model_of(spec), lambda name: floats.get_submodule(name).weight.detach())
