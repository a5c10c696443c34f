"""Wrappers: entries that step another entry, found, read and digested through their own TOML."""

import re
import shutil
from pathlib import Path

import pytest
from small import ROOT

from bench.battery.tiny import Tiny, equal
from bench.entry import Entry
from bench.errors import BenchError

BODY = """
from dataclasses import dataclass

from bench.linalg.around import Around


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    patience: float


class Idle(Around):
    def step(self, probe=None):
        self.step_inner(probe)


def build(roles, hp, run, wrapped):
    return Idle(wrapped)
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    """Algorithms in a folder of one's own: two known ones, and a wrapper that does nothing."""
    for name in ("adamw", "schedule_free_adamw", "psgd_kron"):
        shutil.copytree(ROOT / "baselines" / name, tmp_path / name, ignore=shutil.ignore_patterns("tuned"))
    (tmp_path / "idle").mkdir()
    (tmp_path / "idle" / "optimizer.py").write_text('"""Does nothing."""\n' + BODY)
    return tmp_path


def idle(folder: Path, wraps: str = "../adamw/adamw.toml", fixed: str = "patience = 1.0", more: str = "") -> Entry:
    path = folder / "idle" / "idle.toml"
    path.write_text(
        f'title = "Idle"\nfamily = "control"\npaper = "none"\nauthors = ["nobody"]\nscope = "full"\n{more}\n'
        f'[wraps]\nentry = "{wraps}"\n[schedule]\nkind = "decay"\nwarmup_fraction = 0.5\n[fixed]\n{fixed}\n'
    )
    return Entry(path)


def test_a_wrapper_that_does_nothing_is_what_it_wraps_to_the_bit(folder):
    entry, inner = idle(folder), Entry(folder / "adamw" / "adamw.toml")
    assert equal(Tiny(entry, steps=12).train(), Tiny(inner, steps=12).train())


def test_values_of_what_is_wrapped_stand_with_the_wrapper_s_own_and_reach_it(folder):
    entry = idle(folder, fixed="patience = 1.0\nbeta1 = 0.5")
    inner = Entry(folder / "adamw" / "adamw.toml")
    assert entry.defaults == {**inner.defaults, "patience": 1.0, "beta1": 0.5}
    mine = Tiny(entry, steps=6, values={"lr": 1e-3}).train()
    assert equal(mine, Tiny(inner, steps=6, values={"lr": 1e-3, "beta1": 0.5}).train())


def test_its_digest_has_the_wrapped_entry_s(folder):
    entry, before = idle(folder), idle(folder).digest
    source = folder / "adamw" / "optimizer.py"
    source.write_text(source.read_text() + "\nX = 1\n")
    assert Entry(entry.path).digest != before


@pytest.mark.parametrize("changed, message", [
    ({"wraps": "../adamw/adamv.toml"}, r"there is no entry ../adamw/adamv.toml; did you mean .*adamw/adamw.toml"),
    ({"wraps": "idle.toml"}, "idle cannot be wrapped"),
    ({"wraps": "../schedule_free_adamw/schedule-free-adamw.toml"}, "schedule-free-adamw cannot be wrapped"),
    ({"fixed": "patience = 1.0\nbeta3 = 0.5"}, "beta3 is no field of Hyperparameters"),
    ({"fixed": ""}, "no value for hyperparameter patience"),
    ({"fixed": "patience = 1.0\nbeta1 = 7.0"}, "beta1 is 7.0, expected"),
])  # fmt: skip
def test_a_mistake_about_what_is_wrapped_is_one_line_with_its_place(folder, changed, message):
    with pytest.raises(BenchError, match=message) as caught:
        idle(folder, **changed)
    assert "idle" in caught.value.what and "\n" not in caught.value.what


def test_a_name_of_both_is_refused(folder):
    source = folder / "idle" / "optimizer.py"
    source.write_text(source.read_text().replace("patience", "beta1"))
    with pytest.raises(BenchError, match="beta1 is a hyperparameter of what it wraps too"):
        idle(folder, fixed="beta1 = 0.9")


def test_what_wraps_a_coupled_entry_is_coupled_itself(folder):
    path = folder / "psgd_kron" / "psgd-kron.toml"
    path.write_text(re.sub(r"(?m)^coupled.*\n", "", path.read_text()).replace("scope ", "coupled = true\nscope ", 1))
    with pytest.raises(BenchError, match="wraps psgd-kron, which is coupled"):
        idle(folder, wraps="../psgd_kron/psgd-kron.toml")
    idle(folder, wraps="../psgd_kron/psgd-kron.toml", more="coupled = true")


def test_a_controller_must_be_declared(folder):
    source = folder / "idle" / "optimizer.py"
    source.write_text(source.read_text().replace(
        "    def step(", "    def next_batch_sequences(self):\n        return 8\n\n    def step("))  # fmt: skip
    with pytest.raises(BenchError, match="controls_batch is false, but 1 of the optimizers"):
        Tiny(idle(folder))
    Tiny(idle(folder, more="controls_batch = true"))
