"""Whether the commit that a rerun's seeds were drawn from is the one that published what it runs again."""

import subprocess
from pathlib import Path

from bench.plan import Plan, plan_path


def published_by(base: Path, plan: Plan) -> set[str] | None:
    """Return the commits that added a plan, or runs of it, to the clone; None where the clone has no history.

    One that added child records alone is none of them: each would be another draw of seeds.
    """
    if _git(base, "rev-parse", "--is-shallow-repository") != ["false"]:
        return None
    board = Path("leaderboard")
    runs = (board / "records" / plan.task / plan.digest[:16]).as_posix()
    paths = [plan_path(board / "plans", plan).as_posix(), f":(glob){runs}/*.json", f":(exclude,glob){runs}/*.*.json"]
    words = ("log", "--first-parent", "-m", "--diff-filter=A", "--format=%H", "--")
    return set(_git(base, *words, *paths))


def _git(base: Path, *words: str) -> list[str]:
    try:
        done = subprocess.run(["git", *words], cwd=base, capture_output=True, text=True, check=False)
    except OSError:  # no git here
        return []
    return done.stdout.split() if done.returncode == 0 else []
