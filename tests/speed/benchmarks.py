"""Timings by pytest-benchmark: the training step of every mode, entries' steps, after-training passes. `make bench`.

A line for each target says what came of it: a training mode's step against bf16, the seconds of a pass over 130M,
HAWQ's traces by themselves, peak memory over the model's own. A machine that others use misses them for no fault of the
code, so nothing fails here, and beside the seconds of a clock stand those of the processors. `make speed` interleaves
what is compared; this keeps numbers that can be compared over time (`--benchmark-autosave`, `--benchmark-compare`).
"""

import time
from pathlib import Path

import numpy as np
import pytest
import resident
import torch
from quantization import ROTATED, TARGET, Trained

from bench.claims import build_entry, build_rest, claimed
from bench.entry import Entry
from bench.machine import make_deterministic
from bench.mode import mode_names, read_mode
from bench.model import build_model
from bench.quantize import hawq
from bench.quantize.after import apply
from bench.quantize.calibration import SEQUENCES, Calibration
from bench.roles import Run, roles_of
from bench.task import read_task

ROOT = Path(__file__).parents[2]
NANO, REAL = (read_task(ROOT / "tasks" / f"{name}.toml") for name in ("nano", "llama-130m"))
CPU = torch.device("cpu")
TRAINING = [name for name in mode_names() if read_mode(name).kind == "training"]
PASSES = {"ptq-w4": 20, "ptq-w4-gptq": 300, "ptq-mixed-4": 180}  # seconds that a pass over 130M may take on 2 cores
CALIBRATION_TOKENS = 256


@pytest.fixture
def say(capsys):
    def line(text):
        with capsys.disabled():
            print(f"\n  {text}", end=" ")

    return line


@pytest.fixture(scope="module")
def medians():
    return {}


@pytest.mark.parametrize("mode", sorted(TRAINING, key=lambda name: name != "bf16"))
@pytest.mark.benchmark(
    group="training step of nano, AdamW, seconds of one core: at most 1.5x bf16, 1.8x with a rotation",
    timer=time.process_time,
)
def test_training_step(benchmark, mode, medians, say):
    make_deterministic(1)
    torch._dynamo.config.cache_size_limit = 64
    trained = Trained(mode, NANO, CPU)
    benchmark.pedantic(trained.step, rounds=30, warmup_rounds=3)
    medians[mode] = benchmark.stats.stats.median
    limit = ROTATED if read_mode(mode).hadamard else TARGET
    say(f"nano cpu {mode}: {1000 * medians[mode]:.1f} ms a step, {medians[mode] / medians['bf16']:.2f}x bf16"
        + (f" (target at most {limit})" if mode != "bf16" else ""))  # fmt: skip


@pytest.mark.parametrize("path", ["adamw/adamw", "muon/muon", "soap/soap", "shampoo/shampoo"])
@pytest.mark.benchmark(group="optimizer step of nano")
def test_optimizer_step(benchmark, path):
    make_deterministic(1)
    entry, training = Entry(ROOT / "baselines" / f"{path}.toml"), NANO.training
    model = build_model(NANO.model, training.context, seed=0)
    roles, steps = roles_of(model), NANO.steps(1.0)
    generator = torch.Generator().manual_seed(0)
    run = Run(steps, steps * training.batch_tokens, training.batch_tokens, CPU, generator)
    own = build_entry(entry, entry.values({}), roles, run)
    optimizers = [*own, *build_rest(roles, claimed(own, roles), NANO.rest)]
    for w in roles.all:
        w.grad = torch.randn(w.shape, generator=generator) * 1e-3

    def step():
        for optimizer in optimizers:
            optimizer.step()

    benchmark.pedantic(step, rounds=40, warmup_rounds=10)


@pytest.mark.parametrize("mode", PASSES)
@pytest.mark.benchmark(group="after-training pass over llama-130m")
def test_after_training_pass(benchmark, mode, say, monkeypatch):
    make_deterministic(2)
    tokens = np.random.default_rng(0).integers(0, REAL.model.vocabulary, (SEQUENCES, CALIBRATION_TOKENS + 1))
    calibration = Calibration(tokens)

    def fresh():
        return (build_model(REAL.model, CALIBRATION_TOKENS, seed=0), read_mode(mode), calibration), {}

    benchmark.extra_info["target_seconds"] = PASSES[mode]
    spent, traces = [], hawq.mean_traces

    def traced(*given):
        start = time.perf_counter(), time.process_time()
        found = traces(*given)
        spent[:] = [time.perf_counter() - start[0], time.process_time() - start[1]]
        return found

    monkeypatch.setattr(hawq, "mean_traces", traced)

    def clocked(*given):
        start = time.process_time()
        apply(*given)
        benchmark.extra_info["cpu_seconds"] = time.process_time() - start

    benchmark.pedantic(clocked, setup=fresh, rounds=1)
    say(f"llama-130m {mode}: {benchmark.stats.stats.median:.1f} s, {benchmark.extra_info['cpu_seconds']:.1f} s of "
        f"processors (target at most {PASSES[mode]} s"
        + (f", for its traces: {spent[0]:.1f} s, {spent[1]:.1f} s of processors)" if spent else ")"))  # fmt: skip


@pytest.mark.parametrize("mode", resident.MODES)
@pytest.mark.benchmark(group="all of a mode of a finished llama-130m, in a process of its own")
def test_resident_memory(benchmark, mode, say):
    say(benchmark.pedantic(resident.told, args=("llama-130m", mode), rounds=1))
