"""The workflows: actions by commit, foreign code never beside a secret or a token that writes."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from chromium import absent

FOLDER = Path(__file__).parents[1] / ".github" / "workflows"
WORKFLOWS = {path.stem: path for path in sorted(FOLDER.glob("*.yml"))}
ALL = pytest.mark.parametrize("name", WORKFLOWS)


def parsed(name: str) -> dict:
    return yaml.safe_load(WORKFLOWS[name].read_text())


def jobs(name: str) -> list[dict]:
    return list(parsed(name)["jobs"].values())


def steps(name: str) -> list[dict]:
    return [step for job in jobs(name) for step in job["steps"]]


def test_all_four_are_there():
    assert set(WORKFLOWS) == {"tests", "submission", "comment", "pages"}


@ALL
def test_actions_are_pinned_by_commit_and_say_their_version(name):
    used = re.findall(r"uses: (.*)", WORKFLOWS[name].read_text())
    assert len(used) == len([step for step in steps(name) if "uses" in step])
    assert all(re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action) for action in used), used


@ALL
def test_permissions_are_said_jobs_end_and_nothing_of_a_pull_request_is_pasted_into_a_script(name):
    assert "permissions" in parsed(name)
    assert all("timeout-minutes" in job for job in jobs(name))
    scripts = [step.get("run", "") + step.get("with", {}).get("script", "") for step in steps(name)]
    assert not [script for script in scripts if "${{" in script]


@pytest.mark.parametrize("name", ["tests", "submission"])
def test_where_foreign_files_are_there_is_no_secret_and_the_token_reads(name):
    text = WORKFLOWS[name].read_text()
    assert parsed(name)["permissions"] == {"contents": "read"} and not [
        job for job in jobs(name) if "permissions" in job
    ]
    assert "secrets." not in text and "pull_request_target" not in text and "github.token" not in text
    checkouts = [step for step in steps(name) if step.get("uses", "").startswith("actions/checkout")]
    assert checkouts and all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_publishing_waits_neither_for_the_script_that_git_ignores_nor_for_pages_of_a_merged_submission(tmp_path):
    (compare,) = [step["run"] for step in steps("pages") if "diff" in step.get("run", "")]
    made, kept = tmp_path / "site", tmp_path / "leaderboard" / "site"
    for folder in (made, kept):
        folder.mkdir(parents=True)
        (folder / "index.html").write_text("the same")
    (made / "vega.js").write_text("made by each build")

    def said():
        done = subprocess.run(["bash", "-e", "-c", compare], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout

    assert said() == ""
    (made / "index.html").write_text("with a submission's record")
    assert "::warning::" in said()


def test_a_browser_that_is_missing_is_passed_over_on_a_desk_and_fails_in_ci():
    assert any("playwright install" in step.get("run", "") for step in steps("tests"))
    with pytest.raises(pytest.skip.Exception):
        absent("no browser", {})
    with pytest.raises(pytest.fail.Exception):
        absent("no browser", {"CI": "true"})


def test_the_pull_request_is_judged_by_the_base_s_code_alone():
    run = [step for step in steps("submission") if "python" in step.get("run", "") or "pip" in step.get("run", "")]
    assert run and all(step.get("working-directory") == "base" or "base/constraints.txt" in step["run"] for step in run)
    assert "torch" not in " ".join(step["run"] for step in run)


def test_what_may_write_comments_checks_nothing_out_and_runs_one_script():
    used = [step.get("uses", "") for step in steps("comment")]
    assert all(used) and not any("checkout" in action for action in used)
    assert not [step for step in steps("comment") if "run" in step]
    assert parsed("comment")["permissions"] == {"actions": "read", "pull-requests": "write"}


SAID = """
const core = {info: text => console.log(JSON.stringify({info: text}))};
const lists = {pulls: [{number: 7, head: {sha: 'abc'}}], files: FILES, comments: []};
const github = {
  paginate: async call => lists[call],
  rest: {pulls: {list: 'pulls', listFiles: 'files'},
         issues: {listComments: 'comments', createComment: async place => console.log(JSON.stringify(place))}},
};
const context = {repo: {owner: 'o', repo: 'r'}, payload: {workflow_run: {head_sha: 'abc', conclusion: 'failure'}}};
(async () => { SCRIPT })();
"""


@pytest.mark.skipif(not shutil.which("node"), reason="the script of a workflow needs node")
@pytest.mark.parametrize(
    ("changed", "verified", "said"),
    [
        ("leaderboard/plans/nano/x.json", "x: stands", "x: stands"),
        ("leaderboard/plans/nano/x.json", None, "did not run"),
        (".github/workflows/submission.yml", "x: stands", "nothing that its run says is repeated"),
        ("bench/cli/submit.py", "x: stands", "nothing that its run says is repeated"),
    ],
)
def test_a_comment_repeats_what_the_base_s_workflow_said_and_nothing_else(tmp_path, changed, verified, said):
    if verified:
        (tmp_path / "told").mkdir()
        (tmp_path / "told" / "verify.txt").write_text(verified)
    script = next(step["with"]["script"] for step in steps("comment") if "script" in step.get("with", {}))
    text = SAID.replace("FILES", json.dumps([{"filename": changed}])).replace("SCRIPT", script)
    done = subprocess.run(["node", "-e", text], cwd=tmp_path, capture_output=True, text=True, check=True)
    body = json.loads(done.stdout)["body"]
    assert said in body and ("x: stands" in body) == ("x: stands" in said)


def test_a_pull_request_that_changes_the_workflow_is_told_apart_before_anything_is_written():
    script = next(step["with"]["script"] for step in steps("comment") if "script" in step.get("with", {}))
    assert script.index("listFiles") < script.index("createComment")
    assert "startsWith('.github/')" in script and "startsWith('bench/')" in script
