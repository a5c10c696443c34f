"""The command: each verb does its work on files, and a user's mistake is one line and exit code 2."""

import json
import re
import sys
from pathlib import Path

import pytest
from small import ADAMW, MUON, ROOT, make, write_task

from bench.cli.main import main
from bench.cli.submit import verdict

SMOKE = str(ROOT / "tasks" / "smoke.toml")


@pytest.fixture
def bench(monkeypatch, capsys, tmp_path):
    """Call the command in a folder of its own and return (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["bench", *map(str, words)])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


HERE = ["--records", ".", "--tasks", ".", "--baselines", "."]
MISTAKES = {
    "a task that is not there": (["run", "tasks/nanoo.toml", ADAMW], "no such file"),
    "an entry that is not there": (["run", SMOKE, MUON.with_name("mon.toml")], "did you mean muon.toml?"),
    "an entry that is a task": (["run", SMOKE, SMOKE], "unknown key"),
    "a rung off the ladder": (["run", SMOKE, ADAMW, "--budget", "3x"], "no budget 3x"),
    "a mode nobody knows": (["run", SMOKE, ADAMW, "--mode", "bf61"], "no mode bf61; did you mean bf16?"),
    "a mode nobody knows, to be shown": (["stand-in", SMOKE, "--mode", "bf61"], "no mode bf61; did you mean bf16?"),
    "all modes and one": (["score", SMOKE, "--modes", "--mode", "fp8"], "--modes shows all modes"),
    "records that are not there": (["score", SMOKE, "--records", "nothere"], "no such folder of records"),
    "a file nobody made": (["lint", "nowhere"], "nowhere: no such file or folder"),
    "a record that is not there": (["replay", "gone.json"], "gone.json: no such file"),
    "a folder that cannot be made": (["site", *HERE, "--out", "/proc/x"], "/proc/x"),
    "entries that are not there": (["entries", "nowhere"], "nowhere: no such file"),
    "a folder without entries": (["entries", ROOT / "tasks"], "no entries here"),
    "a folder for a task": (["task", ROOT / "tasks"], "tasks: is a folder, expected a file"),
    "an entry for a task": (["run", ADAMW, SMOKE], "adamw.toml: is an entry, expected a task"),
    "a name for a path": (["run", "smokee", ADAMW], "smokee: no such file"),
    "a file for records": (["run", SMOKE, ADAMW, "--records", ADAMW / "x"], "adamw.toml: is a file, expected a folder"),
    "words for an old release": (["release", "1.0", "--check", "--why", "x"], "--check makes an old release again"),
    "findings that are not there": (["release", "1.0", "--why", "x", "--findings", "gone.md"], "gone.md: no such file"),
    "pages of no clone": (["site"], "tasks: no such folder\n  call this from the root of a clone"),
    "lint of no clone": (["lint"], "tasks: no such folder\n  call this from the root of a clone"),
    "lint of what is none": (["lint", ROOT / "README.md"], "README.md: holds nothing that is known here"),
    "an entry misspelt": (["check", "muom", "--baselines", ROOT / "baselines"], "did you mean muon?"),
    "a task misspelt": (["check", MUON, "--task", "nanoo.toml"], "nanoo.toml: no such file"),
    "a file for pages": (["site", "--out", ADAMW], "adamw.toml: is a file, expected a folder"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_one_line_and_loses_nothing(bench, what):
    words, message = MISTAKES[what]
    code, out, err = bench(*words)
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and message in err and "Traceback" not in err
    assert len(err.strip().splitlines()) <= 2


def test_the_version_is_said_for_whoever_reports_a_fault(bench):
    code, out, _ = bench("--version")
    assert code == 0 and re.fullmatch(r"isoloss \d+\.\d+\.\d+\n", out)


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A folder with a small task and the records of two short ladders."""
    folder = tmp_path_factory.mktemp("small")
    task = write_task(folder)
    for budget in (0.25, 0.5, 1.0):
        for seed in (0, 1):
            make(task, ADAMW, folder, budget, seed)
    for seed in (0, 1):
        make(task, MUON, folder, 0.5, seed)
    return folder


def test_a_track_that_is_none_is_refused_with_those_there_are(bench):
    code, out, err = bench("score", SMOKE, "--track", "tranfer")
    assert (code, out) == (2, "") and "is not one of 'tuned', 'transfer', 'declared'" in err


@pytest.mark.parametrize("form", ["plain", "github", "latex", "csv", "json"])
def test_score_prints_the_board_in_every_form(bench, small, form):
    code, out, err = bench("score", small / "small.toml", "--records", small / "records", "--format", form)
    assert code == 0, err
    assert "muon" in out and "adamw" in out
    if form == "json":
        assert {row["entry"] for row in json.loads(out)["rows"]} == {"muon"}
    if form == "plain":
        assert "times" in out and "set by hand and not tuned" in out


def test_what_is_ready_is_told_with_what_to_set_first():
    said = verdict(MUON, Path("tasks/nano.toml"), 12, 0, "OMP_NUM_THREADS=1 ")
    assert said == f"muon is ready: 12 checks hold. Next: OMP_NUM_THREADS=1 bench evaluate tasks/nano.toml {MUON}"


def test_site_lint_task_and_data_do_what_they_say(bench, small):
    code, out, _ = bench("site", "--records", small / "records", "--out", "site", "--tasks", small, "--baselines",
                         ROOT / "baselines")  # fmt: skip
    assert code == 0 and "index.html" in out
    code, again, _ = bench("site", "--leaderboard", small, "--out", "again", "--tasks", small, "--baselines",
                           ROOT / "baselines")  # fmt: skip
    assert code == 0 and again.split()[0] == out.split()[0], "the records are those of the leaderboard's folder"
    assert bench("lint", small / "small.toml", small / "records", ROOT / "baselines")[0] == 0
    code, out, _ = bench("task", small / "small.toml", "--json")
    assert code == 0 and json.loads(out)["loss_floor"] == pytest.approx(2.13, abs=0.05)
    code, out, _ = bench("data", small / "small.toml", "--json")
    assert code == 0 and set(json.loads(out)) == {"train", "select", "score"}


def test_lint_finds_a_record_whose_log_was_cut_short(bench, small, tmp_path):
    path = next((small / "records").rglob("*.json"))
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    log = path.with_suffix(".log.gz").read_bytes()
    copy.with_suffix(".log.gz").write_bytes(log[: len(log) // 2])
    code, _, err = bench("lint", copy)
    assert code == 2 and "the log is damaged" in err


def test_an_entry_that_raises_is_told_its_line_and_is_told_it_once(bench, tmp_path):
    """Each check that meets the mistake fails; what is to be mended stands in the first of them and in the real run."""
    assert bench("new", "raises", "--baselines", tmp_path)[0] == 0
    source = tmp_path / "raises" / "optimizer.py"
    at = "            (momenta,) = held"
    assert at in source.read_text()
    source.write_text(source.read_text().replace(at, f"            misspelled\n{at}"))
    code, out, _ = bench("check", "raises", "--baselines", tmp_path, "--on", SMOKE, "--task", SMOKE)
    failed = [line.split(": ", 1)[1] for line in out.splitlines() if line.startswith("FAIL")]
    line = source.read_text().splitlines().index("            misspelled") + 1
    told = [one for one in failed if one != "as above"]
    assert code == 1 and len(failed) > len(told) == 2
    assert all(one.endswith(f"NameError: name 'misspelled' is not defined (optimizer.py, line {line})") for one in told)
    assert f"raises is not ready: {len(failed)} checks fail" in out
