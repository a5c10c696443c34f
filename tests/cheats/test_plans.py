"""Plans beyond a first one's: looks, reruns, variants and wrappers. Ledgers are a formula's, and no run is made."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from planned import KIND, bowl, copy_baselines, entry_at, trial_run, write_trials
from submitted import cloned

from bench.entry import Entry
from bench.ledger import ledger_path
from bench.mode import FLOAT
from bench.plan import Plan, add_modes, add_rungs, make_plan, write_plan
from bench.rerun import rerun_plan
from bench.submission.judge import verify
from bench.submission.pack import files_of, write_bundle
from bench.task import read_task, rung_name
from bench.trials import state_of
from bench.tuned import Cost, Tuned, lent_values, read_tuned, tuned_path, write_tuned
from bench.tuning import DECAY

UNMADE = "no record of"  # all that is missing where no run was made


@dataclass
class Author:
    """A clone that its author has tuned an entry in, and the clone that it is to be merged into."""

    root: Path
    base: Path

    @property
    def task(self):
        return read_task(self.root / "tasks" / "small.toml")

    @property
    def yardstick(self) -> Plan:
        return self._read_plan("adamw-ref")

    def _read_plan(self, name):
        from bench.plan import find_plans

        return find_plans(self.root / "leaderboard" / "plans", "small", name)[0]

    def entry(self, name: str) -> Entry:
        return entry_at(name, self.root / "baselines")

    def plans(self, name: str, after: Plan | None = None, **changed) -> Plan:
        """Write the entry's plan and, where it is its first, a ledger and the tuned values."""
        task, entry, board = self.task, self.entry(name), self.root / "leaderboard"
        plan = make_plan("small", task, entry, KIND, self.yardstick, after=after).model_copy(update=changed)
        write_plan(board / "plans", plan)
        if after is not None:
            return plan
        steps = {rung: task.steps(rung) for rung in task.budget.rungs}

        def run(plan, wanted, seed, loss):
            made = trial_run(plan, wanted, seed, loss)
            return made.model_copy(
                update={"loss_chain": made.run_id, "charged_tokens": float(task.tokens(wanted.rung))}
            )

        trials = write_trials(ledger_path(board / "ledgers", plan), plan, bowl(), steps=steps, run=run)
        tuned = state_of(plan, steps, trials).tuned
        runs = [run for trial in trials for run in trial.runs]
        cost = Cost(trials=len(trials), charged_tokens=sum(run.charged_tokens for run in runs),
                    train_seconds=round(sum(run.train_seconds for run in runs), 1))  # fmt: skip
        theirs = read_tuned(self.entry("adamw-ref").path, "small", "adamw-ref")
        lent = {
            rung_name(rung): {**lent_values(plan, theirs.at(rung)), f"transfer.{DECAY}": theirs.at(rung)[DECAY],
                              "transfer.32x32": 1.5}
            for rung in (plan.ladder if "transfer" in plan.tracks else ())
        }  # fmt: skip
        values = {FLOAT: {rung_name(rung): own for rung, own in sorted(tuned.items())}}
        write_tuned(
            tuned_path(entry.path, "small", name),
            Tuned(plan=plan.digest, ledger=trials[-1].digest, cost=cost, tuned=values,
                  transfer={FLOAT: lent} if lent else {}),
        )  # fmt: skip
        return plan

    def said(self, name: str, plans: list[Plan], without: str = "", **changed: bytes) -> list[str]:
        """Return what the pull request is refused for beside the runs that were not made."""
        files = {**files_of(self.entry(name), plans, self.root / "leaderboard"), **changed}
        bundle = self.root / "bundle"
        shutil.rmtree(bundle, ignore_errors=True)
        write_bundle(bundle, {name: data for name, data in files.items() if not without or without not in name})
        return [str(finding) for finding in verify(bundle, self.base).findings if UNMADE not in finding.reason]


@pytest.fixture(scope="module")
def clones(tmp_path_factory) -> Author:
    base = tmp_path_factory.mktemp("base")
    cloned(base)
    copy_baselines(base / "baselines", "muon", "perpgrad", "rho_a")
    root = tmp_path_factory.mktemp("author") / "clone"
    shutil.copytree(base, root)
    return Author(root, base)


@pytest.fixture
def author(clones, tmp_path) -> Author:
    shutil.copytree(clones.root, tmp_path / "clone")
    shutil.copytree(clones.base, tmp_path / "base")
    return Author(tmp_path / "clone", tmp_path / "base")


@pytest.mark.parametrize("name", ["perpgrad", "rho-adamw", "rho-muon", "moonlight", "adamw"])
def test_no_false_alarm_is_raised_by_a_plan_of(author, name):
    shutil.rmtree(author.entry(name).path.parent / "tuned", ignore_errors=True)
    if name == "adamw":
        cloned_tuned(author)
    plan = author.plans(name)
    assert author.said(name, [plan]) == []


def cloned_tuned(author):
    """Put the yardstick's tuned values back, which lie in the same folder as a twin's."""
    source = author.base / "baselines" / "adamw" / "tuned"
    shutil.copytree(source, author.root / "baselines" / "adamw" / "tuned")


def test_a_new_variant_of_a_published_algorithm_comes_without_its_code(author):
    home = author.root / "baselines" / "muon"
    (home / "moonlight.toml").rename(home / "sunlight.toml")
    (author.base / "baselines" / "muon" / "moonlight.toml").unlink()
    plan = author.plans("sunlight")
    assert author.said("sunlight", [plan], without="optimizer.py") == []


def published(author, name="perpgrad") -> Plan:
    """Tune an entry, and take it into the other clone as well."""
    plan = author.plans(name)
    shutil.rmtree(author.base)
    shutil.copytree(author.root, author.base)
    return plan


@pytest.mark.parametrize("kind", ["look", "rerun"])
def test_a_later_plan_stands_and_may_not_rewrite_the_tuned_values(author, kind):
    first = published(author)
    path = tuned_path(author.entry("perpgrad").path, "small", "perpgrad")
    if kind == "look":
        later = author.plans("perpgrad", after=first)
    else:
        later = rerun_plan(first, "0" * 40, KIND, 1.0, "tuned", 1)
        write_plan(author.root / "leaderboard" / "plans", later)
    assert author.said("perpgrad", [later]) == []
    assert author.said("perpgrad", [later], without="tuned/") == []
    name = f"baselines/perpgrad/tuned/small/{path.name}"
    text = path.read_text()
    for pattern, put, key in (
        (r"\nlr = [\d.e-]+", "\nlr = 0.123", "tuned.bf16.1x"),
        ("trials = ", "trials = 1", "cost.trials"),
        (r"\ncharged_tokens = ", r"\ncharged_tokens = 1", "cost.charged_tokens"),
        (f'"{first.digest}"', f'"{"1" * 64}"', "plan"),
        (r"\n\[tuned", f'\n[added]\n{later.digest} = "{"1" * 64}"\n\n[tuned', "added"),
    ):
        forged = re.sub(pattern, put, text, count=1)
        assert forged != text
        said = author.said("perpgrad", [later], **{name: forged.encode()})
        assert any(line.startswith(f"{name}: {key}: ") for line in said), (key, said)


def test_an_entry_is_tuned_at_the_first_rung_that_is_compared(author):
    """The ladder edited for the first plan, and put back for the one that adds the rungs that it then lacks."""
    path = author.root / "tasks" / "small.toml"
    text = path.read_text()
    path.write_text(text.replace("compared = [1.0]", "compared = [2.0]"))
    first = author.plans("perpgrad")
    path.write_text(text)
    later = add_rungs([first], author.task)
    write_plan(author.root / "leaderboard" / "plans", later)
    said = author.said("perpgrad", [first, later])
    for plan in (first, later):
        name = f"leaderboard/plans/small/perpgrad-{plan.digest[:16]}.json"
        assert f"{name}: tuning.rung: 2x, entries are tuned at 1x" in said
    assert not any(": tuning: " in line for line in said)  # nothing else of its search is wrong


def test_a_placebo_is_no_submission(author):
    yardstick, entry = author.yardstick, author.entry("perpgrad")
    plan = make_plan("small", author.task, entry, KIND, yardstick, placebo=1)
    path = write_plan(author.root / "leaderboard" / "plans", plan)
    name = f"leaderboard/plans/small/{path.name}"
    honest = author.plans("perpgrad")
    said = author.said("perpgrad", [honest], **{name: path.read_bytes()})
    assert f"{name}: entry: is a placebo: what is measured of tuning noise is the board's, for all" in said
    shutil.copy(path, author.base / name)  # one that is published disturbs nobody
    assert author.said("perpgrad", [honest]) == []


@pytest.mark.parametrize("kind", ["rerun", "modes"])
def test_a_look_comes_after_a_plan_of_the_author_s(author, kind):
    first = published(author)
    if kind == "rerun":
        other, what = rerun_plan(first, "0" * 40, KIND, 1.0, "tuned", 1), "is a rerun"
    else:
        other, what = add_modes(first, ("ptq-w4",), "adamw-ref"), "only adds modes"
    for root in (author.root, author.base):
        write_plan(root / "leaderboard" / "plans", other)
    look = author.plans("perpgrad", after=other)
    assert any(f": after: the plan {other.digest[:16]} {what}" in line for line in author.said("perpgrad", [look]))


def test_the_yardstick_of_a_plan_is_the_reference_s_current_one(author):
    other = published(author, "moonlight")
    for yardstick in (other.digest, None):
        plan = author.plans("perpgrad", yardstick=yardstick)
        assert any(": yardstick: " in line for line in author.said("perpgrad", [plan]))


def test_the_transfer_track_s_values_are_the_yardstick_s(author):
    name = "moonlight"
    plan = author.plans(name)
    path = tuned_path(author.entry(name).path, "small", name)
    place = f"baselines/{plan.algorithm}/tuned/small/{path.name}"
    head, _, table = path.read_text().partition("[transfer.")
    for old, new, key in (("\nlr = ", "\nlr = 1", "lr"), ('decay" = ', 'decay" = 1', f"transfer.{DECAY}"),
                          ('32x32" = 1.5', '32x32" = -1.5', ""), ("\nlr = ", "\nrho = 1.0\nlr = ", "rho")):  # fmt: skip
        forged = f"{head}[transfer.{table.replace(old, new, 1)}"
        said = author.said(name, [plan], **{place: forged.encode()})
        assert any(f"{place}: transfer.bf16.1x{'.' * bool(key)}{key}: " in line for line in said), (key, said)


def test_records_of_another_kind_of_machine_than_the_yardstick_s_are_remarked_on(author):
    for kind, many in ((KIND, 1), (author.yardstick.machine_kind, 0)):
        plan = author.plans("perpgrad", machine_kind=kind)
        assert author.said("perpgrad", [plan]) == []
        remarks = verify(author.root / "bundle", author.base).remarks
        assert [remark.key for remark in remarks] == ["machine_kind"] * many


STRANGERS = {
    "tests/baselines/test_muon.py": "belongs to no plan of this bundle",
    "baselines/other/optimizer.py": "belongs to no plan of this bundle",
    "baselines/other/muon.toml": "belongs to no plan of this bundle",
    "baselines/perpgrad/index.toml": "its name is taken by a page",
    "baselines/perpgrad/adamw.toml": "its name is taken by baselines/adamw/adamw.toml",
    "baselines/perpgrad/other.toml": "not valid TOML",
}


@pytest.mark.parametrize("name", STRANGERS)
def test_a_stranger_is_refused(author, name):
    plan = author.plans("perpgrad")
    said = author.said("perpgrad", [plan], **{name: b"garbage"})
    assert any(line.startswith(f"{name}: ") and STRANGERS[name] in line for line in said), said


def test_an_algorithm_s_own_test_is_part_of_its_bundle_once(author):
    plan = author.plans("perpgrad")
    path = author.root / "tests" / "baselines" / "test_perpgrad.py"
    path.parent.mkdir(parents=True)
    path.write_text("def test_it(): ...\n")
    assert "tests/baselines/test_perpgrad.py" in files_of(author.entry("perpgrad"), [plan], author.root / "leaderboard")
    assert author.said("perpgrad", [plan]) == []
    there = author.base / "tests" / "baselines" / "test_perpgrad.py"
    there.parent.mkdir(parents=True)
    there.write_text("def test_it(): assert True\n")
    assert any("is published already, and differs" in line for line in author.said("perpgrad", [plan]))


def test_a_rerun_names_the_commit_that_published_what_it_runs_again(author):
    first = published(author)

    def git(*words):
        named = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
        done = subprocess.run(["git", *named, *words], cwd=author.base, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def rerun_from(merge):
        later = rerun_plan(first, merge, KIND, 1.0, "tuned", 1)
        path = write_plan(author.root / "leaderboard" / "plans", later)
        said = author.said("perpgrad", [later])
        path.unlink()
        return [line for line in said if "rerun.merge" in line]

    git("init", "--quiet")
    git("add", "leaderboard")
    git("commit", "--quiet", "--message", "published")
    merge = git("rev-parse", "HEAD")
    folder = author.base / "leaderboard" / "records" / "small" / first.digest[:16]
    folder.mkdir(parents=True)
    commits = []
    for name in (f"{'1' * 64}.json", f"{'1' * 64}.quantized.json"):
        (folder / name).write_text("{}")
        git("add", "leaderboard")
        git("commit", "--quiet", "--message", name)
        commits.append(git("rev-parse", "HEAD"))
    run, child = commits
    assert rerun_from(merge) == rerun_from(run) == []
    for other in (child, "0" * 40):  # each pull request with a mode would be another draw of seeds
        (line,) = rerun_from(other)
        assert "is no commit that published" in line
