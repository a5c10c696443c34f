"""House rules that a machine can check. Each is named in CONTRIBUTING.md."""

import ast
import re
import resource
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from bench.assemble import micro_batch_of
from bench.task import read_task

ROOT = Path(__file__).parents[1]
BENCH = ROOT / "bench"

# Imports point down or sideways. A module is as high as the first line that names it or its folder.
FLOORS = [
    ["errors", "digest", "spec", "places", "protocol"],
    ["task", "entry", "record", "mode", "overrides", "index", "verify", "score", "pages", "forecast", "memory",
     "devices", "domains", "timings", "versions", "children", "crossings", "diagnosis", "passes", "lint", "plan",
     "ledger", "tuning", "trials", "tuned", "outlook", "forbidden", "reach", "recognition", "starter", "submission",
     "release", "releasing", "findings", "rerun", "standin"],
    ["model", "roles", "data", "schedule", "linalg", "quantize", "checkpoint", "clock", "machine", "along", "probe",
     "transfer", "workers"],
    ["evaluate", "diagnose", "train", "assemble", "facts", "claims", "inventory", "setting", "run", "stepping",
     "refine", "guard"],
    ["replay", "jobs", "orders", "conduct", "lent", "engine", "battery", "check"],
    ["display", "launch", "cli", "__main__"],
]  # fmt: skip
TORCH_STARTS = 2  # below this floor no torch is imported
TORCH_FREE_ABOVE = {"schedule", "clock", "data"}  # pure, though they serve training


def sources() -> list[Path]:
    return sorted(path for path in BENCH.rglob("*.py") if path.name != "__init__.py")


def name_of(path: Path) -> str:
    return path.relative_to(BENCH).parts[0].removesuffix(".py")


def floor_of(name: str) -> int:
    return next(level for level, names in enumerate(FLOORS) if name in names)


def imports_of(path: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"bench.{alias.name}" for alias in node.names} if node.module == "bench" else {node.module}
    return found


def test_every_module_stands_on_a_floor():
    assert {name_of(path) for path in sources()} <= {name for names in FLOORS for name in names}


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(BENCH)))
def test_imports_point_down_or_sideways(path):
    mine = floor_of(name_of(path))
    for module in imports_of(path):
        if module.startswith("bench."):
            name = module.split(".")[1]
            lazily_down = (
                name == "data" and name_of(path) == "forecast"
            )  # the floor of a generated language, numpy only
            assert floor_of(name) <= mine or lazily_down, f"{path.name} imports {module} from above"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(BENCH)))
def test_below_the_torch_line_no_torch_is_imported(path):
    name = name_of(path)
    if floor_of(name) < TORCH_STARTS or name in TORCH_FREE_ABOVE:
        assert not {module for module in imports_of(path) if module.split(".")[0] in ("torch", "transformers")}


def test_the_harness_names_no_entry_and_no_task():
    names = {path.stem for path in (ROOT / "tasks").glob("*.toml")}
    names |= {path.stem for path in (ROOT / "baselines").glob("*/*.toml")}
    for path in sources():
        strings = {node.value for node in ast.walk(ast.parse(path.read_text()))
                   if isinstance(node, ast.Constant) and isinstance(node.value, str)}  # fmt: skip
        assert not names & strings, f"{path} names {names & strings}"


def test_only_workers_speak_to_other_processes_of_a_run():
    for path in sources():
        if name_of(path) != "workers":
            assert "torch.distributed" not in imports_of(path)


def test_files_are_short_and_have_no_nowhere_names():
    for path in [*sources(), *(ROOT / "baselines").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        assert len(path.read_text().splitlines()) <= 300, path
        assert path.stem not in ("utils", "helpers", "common", "misc"), path


def test_no_folder_of_tests_or_baselines_shadows_a_package():
    assert not [path for folder in ("tests", "baselines") for path in (ROOT / folder).rglob("__init__.py")]


def test_every_module_and_public_function_says_what_it_is():
    for path in [*sources(), *(ROOT / "baselines").rglob("optimizer.py")]:
        assert ast.get_docstring(ast.parse(path.read_text())), path


def test_the_top_level_is_the_one_that_was_agreed():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout")
    agreed = {"pyproject.toml", "bench", "tasks", "baselines", "leaderboard", "tests", "CONTRIBUTING.md",
              "README.md", "LICENSE", "Makefile", "constraints.txt"}  # fmt: skip
    assert {name.split("/")[0] for name in tracked if not name.startswith(".")} <= agreed


def test_readme_and_contributing_name_every_verb_and_every_rule():
    text = (ROOT / "README.md").read_text() + (ROOT / "CONTRIBUTING.md").read_text()
    verbs = re.findall(
        r'^@app\.command\(\*\*example\("(\w+)', "".join(f.read_text() for f in (BENCH / "cli").glob("*.py")), re.M
    )
    assert len(verbs) == len(set(verbs)) >= 7
    for verb in verbs:
        assert f"bench {verb}" in text, verb
    for path in re.findall(r"`((?:tests|bench|tasks|baselines|leaderboard)/[\w/.-]+)`", text):
        assert (ROOT / path).exists(), f"{path} is named and is not there"


def commands_of_readme() -> list[list[str]]:
    lines = [line.split("#")[0].split() for line in (ROOT / "README.md").read_text().splitlines()]
    return [line for line in lines if line[:1] == ["bench"]]


def test_readme_shares_batches_out_evenly():
    shared = [line for line in commands_of_readme() if line[1] == "run" and "--devices" in line]
    assert len(shared) >= 2
    for line in shared:
        asked = {name: int(number) for name, number in pairwise(line) if name.startswith("--")}
        ranks = asked["--devices"] * asked.get("--nodes", 1)
        assert micro_batch_of(read_task(ROOT / line[2]), ranks, asked.get("--micro-batch")), line


def test_readme_scores_only_runs_whose_reference_it_made_at_two_budgets():
    commands = commands_of_readme()
    own = [place for place, line in enumerate(commands) if "score" in line and "runs/records" in line]
    scored = [place for place in own if "leaderboard/records" not in commands[place]]  # where the ladder is published
    assert scored
    for place in scored:
        task = commands[place][2]
        reference = tomllib.loads((ROOT / task).read_text())["reference"]
        made = [line for line in commands[:place] if line[1:3] == ["run", task]]
        assert any(line[3].endswith(f"/{reference}.toml") and line.count("--budget") > 1 for line in made), task
        assert any(not line[3].endswith(f"/{reference}.toml") for line in made), task


@pytest.mark.parametrize(
    "verb", [["--help"], ["lint", "tasks", "baselines"], ["task", "tasks/nano.toml"]], ids=" ".join
)
def test_verbs_that_do_not_train_answer_fast_and_without_torch(verb):
    code = ("import sys; sys.argv = ['bench', *sys.argv[1:]]\n"
            "from bench.cli.main import main\n"
            "try: main()\nexcept SystemExit as stop: assert not stop.code, stop.code\n"
            "print('torch' in sys.modules, file=sys.stderr)")  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run([sys.executable, "-c", code, *verb], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "False"
    taken = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    assert taken < 5, taken  # seconds of a core, whoever else is on it: half a second where it is quiet
