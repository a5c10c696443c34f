"""What rounded parameters are worth: over tasks of one family, text and context alone."""

from types import SimpleNamespace

import pytest
from small import ROOT

from bench.score.degradation import Cell
from bench.score.mode_text import render_modes
from bench.score.modes import ModeTable
from bench.score.worth import worths
from bench.task import read_task

GPT2, LLAMA = ("gpt2-124m", "gpt2-350m", "gpt2-774m"), ("llama-60m", "llama-130m", "llama-350m")
TASKS = {name: read_task(ROOT / "tasks" / f"{name}.toml") for name in (*GPT2, *LLAMA, "nano")}


def table(name, budget=1.0):
    n = TASKS[name].matrix_parameters
    losses = [(40.0 / (n * rho) ** 0.2 + 1.7,) for rho in (1.0, 0.8)]
    row = SimpleNamespace(cell=Cell("muon", "qat-w4a4", budget, (0,), *losses))
    return TASKS[name], ModeTable(name, "tuned", "adamw-ref", {"qat-w4a4": (row,)})


def test_three_sizes_of_a_family_say_what_rounded_parameters_are_worth():
    (worth,) = worths([table(name) for name in TASKS])
    assert worth.sizes == GPT2 and worth.efficiency.pairs == pytest.approx([0.8] * 3, rel=1e-3)
    assert (worth.family, worth.track, worth.entry, worth.mode) == ("gpt2", "tuned", "muon", "qat-w4a4")
    assert len({TASKS[name].training.context for name in LLAMA}) == 2  # losses of two contexts lie on no one law
    assert worths([table(name) for name in (*GPT2[:2], "nano")]) == []
    assert worths([table(name, 2.0) for name in GPT2]) == []  # above the rung where modes are run


def test_the_text_has_them_beside_the_task_s_modes():
    found = worths([table(name) for name in GPT2])
    empty = ModeTable("gpt2-124m", "tuned", "adamw-ref", {})
    assert "gpt2-350m 0.800" in render_modes(empty, worth=found)
    assert '"rho": null' in render_modes(empty, "json", found)
