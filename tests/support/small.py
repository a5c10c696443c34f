"""A task that runs in a second, and entries that misbehave, as files in a test's own folder."""

import os
import re
from dataclasses import replace
from pathlib import Path

from bench.assemble import Request
from bench.entry import Entry, Value
from bench.run import run
from bench.setting import Places, Watch
from bench.task import read_task

ROOT = Path(__file__).parents[2]
ADAMW = ROOT / "baselines" / "adamw" / "adamw.toml"
MUON = ROOT / "baselines" / "muon" / "muon.toml"
SMALL = {
    "layers": "1", "width": "32", "ffn": "64", "context": "32", "train_documents": "400", "select_documents": "8",
    "score_documents": "8", "tokens": "16_384", "curve_points": "4", "curve_sequences": "8",
}  # fmt: skip


def write_task(folder: Path, **changed: str) -> Path:
    """Write the smoke task at a fraction of its size, with more lines changed by name, and return its path."""
    text = (ROOT / "tasks" / "smoke.toml").read_text()
    if "rungs" in changed:
        changed["compared"] = changed["rungs"]
    for name, value in {**SMALL, **changed}.items():
        text, found = re.subn(rf"(?m)^{name}(\s*)=.*$", rf"{name}\1= {value}", text)
        assert found == 1, name
    path = folder / "small.toml"
    path.write_text(text)
    return path


def write_entry(folder: Path, body: str, fixed: str = "", scope: str = "mixed") -> Path:
    """Write an entry whose optimizer.py has the body below the usual imports, and return its TOML's path."""
    home = folder / "strange"
    home.mkdir(exist_ok=True)
    (home / "optimizer.py").write_text(
        "from dataclasses import dataclass\n\nimport torch\nfrom torch.optim import SGD, Optimizer\n\n\n"
        "@dataclass(frozen=True, kw_only=True)\nclass Hyperparameters:\n    pass\n\n\n" + body
    )
    path = home / "strange.toml"
    path.write_text(
        f'title = "Strange"\nfamily = "control"\npaper = "none"\nauthors = ["nobody"]\nscope = "{scope}"\n'
        f'[schedule]\nkind = "decay"\nwarmup_fraction = 0.1\n[fixed]\n{fixed}'
    )
    return path


def places_in(folder: Path) -> Places:
    return Places(folder / "data", folder / "work", folder / "records")


def make(task: Path, entry: Path, folder: Path, budget: float = 1.0, seed: int = 0, watch: Watch | None = None,
         values: dict[str, Value] | None = None, again: bool = False, mode: str = "bf16",
         weights: Path | None = None) -> Path:  # fmt: skip
    """Make one run in this process and return its record's path; its weights are kept where a folder is given."""
    found = Entry(entry)
    request = Request(task.stem, read_task(task), found, found.values(values or {}), mode, budget, "declared", seed)
    places = replace(places_in(folder), weights=weights)
    return run(request, places, watch or Watch(), checkpoint_seconds=0.0, again=again)


def checkpoints_in(folder: Path) -> set[Path]:
    """Return the checkpoints below a folder in which a run is at work: what vanishes during the search is passed over,
    where `rglob` would raise."""
    return {
        Path(home, name)
        for home, _, names in os.walk(folder)
        for name in names
        if name.startswith("step-") and name.endswith(".pt")
    }
