"""Optimizers that must be rejected, each by the check that stops it before a run is made; and no honest one is."""

import importlib
import pkgutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from small import ROOT, write_entry

from bench.battery import checks
from bench.battery.tiny import Tiny
from bench.entry import Entry, find_entries
from bench.errors import BenchError
from bench.forbidden import forbidden, refuse
from bench.reach import IMPORTS, MODULES
from bench.starter import HERE

STEP = """
class Strange(Optimizer):
    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is not None:
                    {}


def build(roles, hp, run):
    {}
    return Strange([{{"params": roles.matrices}}], {{"lr": 0.1}})
"""
MOVE = 'w.add_(w.grad, alpha=-group["lr"])'


def source(step: str = MOVE, build: str = "pass", top: str = "") -> str:
    return f"{top}\n{STEP.format(step, build)}"


SEEN = {  # what it does: (source, what the source lint says)
    "reads the validation text": (source(top="from bench.data.tokens import prepare"), "imports bench.data.tokens"),
    "reads a file": (source(build='open("weights")'), "open reads files"),
    "reads a file by a library": (source(top="import numpy"), "imports numpy"),
    "loads weights": (source(build='torch.load("weights")'), ".load reads files"),
    "carries weights as numbers": (source(top=f"WEIGHTS = {[0.5 + i for i in range(200)]}"), "200 numbers"),
    "carries weights as bytes": (source(top='WEIGHTS = b"abc"'), "bytes carry data"),
    "carries weights as text": (source(top=f"WEIGHTS = {'x' * 600!r}"), "carries data"),
    "carries weights as an integer": (source(top=f"WEIGHTS = {2**400}"), "more than 64 bits"),
    "patches torch": (source(build="torch.nn.functional.cross_entropy = None"), "changes its own attributes only"),
    "patches by name": (source(build='setattr(torch, "add", None)'), "setattr changes objects by name"),
    "patches the clock": (source(top="import time\ntime.perf_counter = None"), "imports time"),
    "patches the harness": (source(top="import bench.train"), "imports bench.train"),
    "renames a module to patch it": (source(build="t = torch"), "the module torch gets another name"),
    "reaches a module by name": (source(build='getattr(torch, "lo" + "ad")'), "reaches a module by name"),
    "reaches the interpreter": (source(build="().__class__.__subclasses__()"), "reaches the interpreter"),
    "sets the random generator": (source(step="torch.manual_seed(0)"), "sets everybody's random generator"),
    "draws from everybody's generator": (source(step="torch.randn(3)"), "without generator="),
    "moves the learning rate": (source(step='group["lr"] *= 0.5'), "the harness moves it"),
    "moves it by update": (source(step="group.update(lr=0.5)"), "sets lr"),
    "brings a schedule": (source(top="from torch.optim import lr_scheduler"), "moves the learning rate"),
    "runs a backward pass": (source(step="torch.autograd.grad(w, w)"), "runs a backward pass of its own"),
    "runs it by method": (source(step="w.sum().backward()"), ".backward runs a backward pass of its own"),
    "stops early": (source(step="raise KeyboardInterrupt"), "KeyboardInterrupt ends or hides"),
    "hides how it ends": (source(build="try:\n        pass\n    except BaseException:\n        pass"), "hides the end"),
    "knows a task by its shapes": (source(step="if w.shape[0] == 128: w.zero_()"), "tells one task or machine"),
    "knows a task by its length": (source(build="double = run.steps == 500"), "tells one task or machine"),
    "knows a task by two bounds": (source(build="double = 499 < run.steps < 501"), "tells one task or machine"),
    "knows the machine": (source(build="torch.cuda.get_device_name()"), ".cuda looks at the machine"),
    "knows the machine by its environment": (source(top="import os"), "imports os"),
    "hooks a parameter": (source(build="roles.all[0].register_hook(print)"), ".register_hook acts outside of step()"),
    "freezes a parameter": (source(build="roles.all[0].requires_grad_(False)"), "changes what is trained"),
    "writes past the version": (source(step="w.data.zero_()"), "writes past the version"),
    "keeps state in the module": (source(top="SEEN = {}", step='SEEN["w"] = w'), "state outside of the optimizer"),
    "keeps state in a global": (source(step="global kept; kept = w"), "global kept"),
    "keeps state in a cache": (source(top="from functools import cache"), "imports cache"),
    "keeps state in a default": (source(top="def kept(seen={}): return seen"), "lives on between runs"),
    "keeps state in a class": (source(top="class Kept:\n    seen = []"), "all its objects share"),
    "finds the model": (source(top="import gc"), "imports gc"),
    "makes code": (source(build='exec("pass")'), "exec makes code"),
    "knows a task by a name for its length": (source(build="n = run.steps\n    double = n == 500"), "n == 500 tells"),
    "knows a task by a constant": (source(top="WIDTH = 128", step="if w.shape[0] == WIDTH: w.zero_()"), "WIDTH tells"),
    "knows a task by an attribute": (
        source(
            top="class Kept:\n    def __init__(self, run): self.n = run.steps\n    def f(self): return self.n == 500"
        ),
        "self.n == 500 tells",
    ),
    "knows a task by a case": (
        source(top="def f(w):\n    match w.shape[0]:\n        case 128: return 2"),
        "case 128 tells",
    ),
    "knows a task by a side among several": (
        source(top="def f(w):\n    rows, columns = w.shape\n    return columns in (128, 384)"),
        "columns in (128, 384)",
    ),
    "knows a task by a table": (source(step="a = {128: .02, 512: .01}[w.shape[0]]"), "[w.shape[0]] tells one task"),
    "knows a task by a table with a name": (
        source(top="TABLE = {500: 2.0}", build="a = TABLE.get(run.steps, 1.0)"),
        "TABLE.get(run.steps, 1.0) tells",
    ),
    "knows a task by a place in a list": (source(top="N = 500", build="a = (1.0, 2.0)[run.steps // N]"), "// N] tells"),
    "knows a task by its batch": (source(build="double = run.batch_sequences == 512"), "run.batch_sequences == 512"),
    "knows a task by its heads": (source(build="double = 12 in roles.hidden[0].heads"), "heads tells one task"),
    "knows a machine by its ranks": (source(build="double = run.probe.ranks == 8"), "run.probe.ranks == 8 tells"),
    "carries weights in many lists": (
        source(top="\n".join(f"A{i} = {[0.5] * 120}" for i in range(20))),
        "numbers carry data, expected at most 400",
    ),
    "carries weights in its docstring": (
        source(top='"""0.5 0.25"""\nX = [float(v) for v in __doc__.split()]'),
        "__doc__ reaches the interpreter",
    ),
    "reads a docstring by name": (source(build="getattr(roles, '__doc__')"), "names what reaches the interpreter"),
    "reads a docstring by a format": (source(build="'{0.__doc__}'.format(roles)"), "names what reaches"),
    "reads a docstring by a pattern": (
        source(top="def f(x):\n    match x:\n        case int(__doc__=d): return d"),
        "another's private part",
    ),
    "reads a file by its loader": (source(build="__loader__.get_data('/etc/passwd')"), "__loader__ reaches"),
    "moves the learning rate by an operator": (source(top="import operator"), "imports operator"),
    "reads a file through another module": (source(build='torch.builtins.open("weights")'), "torch.builtins reaches"),
    "knows the machine through another module": (source(build="torch.os.environ"), "torch.os reaches a module"),
    "patches through another module": (
        source(build="torch.nn.functional.torch.sys.modules"),
        "torch reaches a module",
    ),
    "imports one module from another": (source(top="from contextlib import os"), "imports contextlib.os"),
    "imports one under another name": (source(top="from enum import bltns"), "imports enum.bltns"),
    "imports a part of torch.optim whole": (source(top="from torch.optim import adam"), "imports torch.optim.adam"),
    "imports a private part": (source(top="from torch import _C"), "imports _C, which is torch's private part"),
    "imports what differentiates": (source(top="from torch import func"), "runs a backward pass of its own"),
    "imports the harness by its mathematics": (source(top="import bench.linalg"), "imports bench.linalg whole"),
    "imports a module of mathematics": (source(top="from bench.linalg import qr"), "bench.linalg does not define"),
    "takes torch from mathematics": (source(top="from bench.linalg.qr import torch as t"), "qr does not define"),
    "imports in a class": (source(top="class A:\n    import torch as t"), "in a class: the module gets another name"),
    "calls with a module as self": (
        source(top="def f(self, p): return self.mm(p)", build="f(torch, 0)"),
        "the module torch gets another name",
    ),
    "puts a module in a tuple": (source(build="for t in (torch.nn,): pass"), "the module torch.nn gets another name"),
    "strips a tensor that it calls self": (source(top="def f(self): return self.data"), ".data writes past"),
    "writes by numpy": (source(step="w.detach().numpy()[0] = 0"), ".numpy writes past the version"),
    "is far too long": (source(top="# " + "x" * 50_000), "bytes, expected at most"),
}


@pytest.mark.parametrize("what", SEEN)
def test_the_source_lint_stops_one_that(what, tmp_path):
    body, said = SEEN[what]
    entry = Entry(write_entry(tmp_path, body))
    with pytest.raises(BenchError) as caught:
        refuse(entry.source)
    assert any(said in str(finding) for finding in forbidden(entry.source.read_text())), caught.value.what


def test_no_codec_makes_other_code_of_a_source_than_is_read_here():
    with pytest.raises(BenchError, match="declares the encoding utf-7, expected UTF-8"):
        forbidden("# coding: utf-7\n# +AAo-open(0)\n")


def test_no_module_of_torch_or_of_python_leads_to_another():
    """All that modules hold and that lies in their folders, as it is in the versions that runs are made with."""
    roots = {name: importlib.import_module(name) for name in IMPORTS if not name.startswith("bench")}
    inner = {(root, name) for root, module in roots.items()
             for name in {*dir(module), *(lies.name for lies in pkgutil.iter_modules(getattr(module, "__path__", ())))}
             if isinstance(getattr(module, name, module), ModuleType) and f"{root}.{name}" not in IMPORTS}  # fmt: skip
    assert len(inner) > 100
    ways = "import {0} as m\nx = m.{1}.x\n", "import {0} as m\nx = m.{1}\n", "from {0} import {1}\n"
    assert not [way.format(*pair) for pair in sorted(inner) for way in ways if not forbidden(way.format(*pair))]
    assert not [name for name in MODULES if callable(getattr(torch, name, None))]


def test_no_honest_source_is_refused():
    entries = find_entries(ROOT / "baselines")
    assert len(entries) > 15
    assert {e.source: forbidden(e.source.read_text()) for e in entries} == {e.source: [] for e in entries}
    assert not forbidden((HERE / "optimizer.txt").read_text().replace("$", "The"))
    assert not forbidden(source())
    place = "C = (8.2, -23.6, 17.3)\ndef f(i, w): return C[min(i, len(C) - 1)], ('a', 'b')[w.shape[0] > w.shape[1]]"
    assert not forbidden(source(top=place))


STATE = 'state = self.state[w]; state.setdefault("m", torch.zeros_like(w{})); state["m"].add_(w.grad); w.sub_({})'
TRIED = {  # what it does: (source, the check of the battery)
    "keeps bf16 state": (source(STATE.format(", dtype=torch.bfloat16", "group['lr'] * state['m']")), checks.keeps_fp32),
    "keeps a tensor outside of state": (source("self.kept = w.grad.clone(); w.sub_(group['lr'] * self.kept)"),
                                        checks.keeps_fp32),
    "counts outside of state_dict": (
        source("self.n = getattr(self, 'n', 0) + 1; w.sub_(w.grad, alpha=group['lr'] / self.n)"), checks.resumes),
    "leaks state across runs": (
        source("Strange.n = getattr(Strange, 'n', 0) + 1; w.sub_(w.grad, alpha=group['lr'] / Strange.n)"),
        checks.repeats),
    "moves others' weights": (
        source("w.sub_(w.grad, alpha=group['lr']); self.others[0].mul_(0.9)",
               "Strange.others = list(roles.vectors)"), checks.keeps_to_its_own),
    "changes others' gradients": (
        source("w.sub_(w.grad, alpha=group['lr']); self.others[0].grad.sign_()",
               "Strange.others = list(roles.vectors)"), checks.keeps_to_its_own),
    "has a schedule of its own": (source("w.sub_(0.1 * w.grad)"), checks.stands_still),
    "follows no schedule": (source("w.sub_(w.grad * group['lr'] ** 0.5)"), checks.scales),
    "learns nothing": (source("w.mul_(1 - 0.01 * group['lr'])"), checks.learns),
    "swallows numbers that are none": (
        source("w.grad.nan_to_num_(); w.sub_(w.grad, alpha=group['lr'])", "roles.all[0].register_hook(print)"),
        checks.keeps_to_its_own),
}  # fmt: skip


@pytest.mark.parametrize("what", TRIED)
def test_the_battery_stops_one_that(what, tmp_path):
    body, check = TRIED[what]
    with pytest.raises(checks.Failed):
        check(Entry(write_entry(tmp_path, body)))


def test_an_optimizer_that_forgot_its_step_is_told_so(tmp_path):
    body = source("pass").replace("def step(", "def stepp(")
    with pytest.raises(checks.Failed, match=r"Strange has no step\(\)"):
        checks.clean_claims(Entry(write_entry(tmp_path, body)))


def test_weights_changed_before_the_first_step_are_refused(tmp_path):
    from small import make, write_task

    entry = write_entry(tmp_path, source(build="roles.matrices[0].data.mul_(2)"))
    with pytest.raises(BenchError, match="changes weights"):
        make(write_task(tmp_path), entry, tmp_path)


def test_a_parameter_claimed_twice_is_refused(tmp_path):
    body = source(build="return [Strange([{'params': roles.matrices}], {'lr': 0.1}) for _ in range(2)]")
    with pytest.raises(BenchError, match="claimed twice"):
        Tiny(Entry(write_entry(tmp_path, body)))


def test_the_lint_of_a_source_needs_no_torch_and_runs_nothing(tmp_path):
    path = Path(write_entry(tmp_path, source(top="import torch\nraise SystemExit")))
    before = set(sys.modules)
    assert forbidden(path.with_name("optimizer.py").read_text())
    assert not {name for name in set(sys.modules) - before if name.startswith("bench_entry")}
