"""What a plan says before a run is made: nothing that was not measured, and what the yardstick's noise allows."""

import dataclasses
import math
import random

from planned import KIND, STEPS, TASK, bowl, plan_of, searched, yardstick

from bench import outlook as forecast
from bench.index import IndexRow
from bench.mode import read_mode
from bench.outlook import ladder_tokens, levelling_tokens, outlook, searched_tokens
from bench.score.board import make_board
from bench.score.power import smallest_speedup
from bench.score.statistics import Noise


def rows() -> list[IndexRow]:
    """A yardstick's ladder with noise of 0.005 nats, made at 20,000 tokens a second."""
    draw = random.Random(0)
    blank = dict.fromkeys(IndexRow._fields)
    made = []
    for rung, seeds in yardstick().ladder.items():
        for seed in seeds:
            tokens = TASK.tokens(rung)
            loss = 0.9 * rung**-0.4 + 1.0 + draw.gauss(0, 0.005)
            made.append(IndexRow(**{
                **blank, "run_id": f"{rung}-{seed}", "path": "x", "task": "nano", "task_digest": TASK.digest,
                "entry": "adamw-ref", "entry_digest": "e", "values_digest": str(rung), "mode": "bf16",
                "mode_digest": read_mode("bf16").digest, "budget": rung,
                "track": "tuned", "seed": seed, "machine_kind": KIND, "harness": "h", "outcome": "finished",
                "tokens": tokens, "charged_tokens": float(tokens), "select_loss": loss, "score_loss": loss,
                "train_seconds": tokens / 20_000, "made": "2026-01-01", "epochs": 0.5,
            }))  # fmt: skip
    return made


def test_without_a_run_nothing_is_guessed():
    lines = outlook(plan_of("muon"), TASK, [])
    assert sum("hours unknown" in line for line in lines) == 3
    assert "unknown yet" in lines[-1]


def test_with_a_yardstick_it_tells_hours_and_the_smallest_speedup():
    plan = plan_of("muon")
    lines = outlook(plan, TASK, rows())
    hours = ladder_tokens(plan, TASK) / 20_000 / 3600
    assert f"about {hours:.1f} hours" in lines[1]
    found = [float(line.rsplit(" ", 1)[1].rstrip("x")) for line in lines if "it detects at" in line]
    assert len(found) == 3 and all(1.0 < speedup < 1.2 for speedup in found)
    assert found == sorted(found), "the ladder flattens, so a longer budget hides more"
    assert "placebos measure it" in lines[-1]


def test_it_says_where_the_board_would_leave_the_records_out():
    plan = plan_of("muon").model_copy(update={"machine_kind": "0" * 64})
    assert [line for line in outlook(plan, TASK, rows()) if "is not the yardstick's" in line]
    for mine, there in ((plan, []), (plan_of("muon"), rows())):
        assert not [line for line in outlook(mine, TASK, there) if "is not the yardstick's" in line]


def test_the_tokens_it_forecasts_are_the_least_that_a_search_takes():
    for plan in (plan_of("muon"), plan_of("adamw", placebo=1)):
        tried, _ = searched(plan, bowl(plan.space["lr"].default), STEPS)
        spent = sum(TASK.tokens(wanted.rung) for wanted, _ in tried) * len(plan.tuning.seeds)
        assert searched_tokens(plan, TASK) <= spent
        assert math.isclose(searched_tokens(plan, TASK), spent, rel_tol=0.35)


def test_levelling_takes_two_runs_at_each_rung_of_the_transfer_track_and_no_others():
    first = plan_of("muon")
    tokens = 2 * sum(TASK.tokens(rung) for rung in first.ladder)
    assert [line for line in outlook(first, TASK, []) if line.startswith(f"levelling: {tokens:,} tokens")]
    for plan in (plan_of("muon", after=first), plan_of("scion"), plan_of("adamw", placebo=1)):
        assert levelling_tokens(plan, TASK) == 0


def detected(lines):
    return [float(line.rsplit(" ", 1)[1].rstrip("x")) for line in lines if "it detects at" in line]


def test_after_a_look_seeds_pool_and_are_tested_at_the_looks_level():
    """Six seeds at 0.0125 tell other speedups than the three new ones alone would at 0.05."""
    first = plan_of("muon")
    second, made = plan_of("muon", after=first), rows()
    lines = outlook(second, TASK, made, before=[first])
    assert all("with the 3 seeds before, tested at 0.0125" in line for line in lines if "it detects at" in line)
    alone, anew = detected(outlook(second, TASK, made)), detected(outlook(first, TASK, made))
    assert all(a < b for a, b in zip(detected(lines), alone, strict=True)) and alone != anew
    board = make_board(made, TASK, "adamw-ref")
    seeds = [5, 5, 10, 5, 5, 5, 5]
    wanted = smallest_speedup(
        board.curve, TASK.tokens(1.0), Noise(board.noise**2, board.degrees_of_freedom), 6, seeds, level=0.0125
    )
    assert detected(lines)[0] == math.ceil(wanted * 1000) / 1000


def test_the_yardsticks_looks_count_as_they_do_on_the_board():
    """A speedup is told between two, and is as much looked at as the one that was looked at more."""
    made = rows()
    lines = outlook(plan_of("muon"), TASK, made, reference_look=2)
    assert all(", at 80% power, tested at 0.0125: " in line for line in lines if "it detects at" in line)
    assert detected(lines)[0] > detected(outlook(plan_of("muon"), TASK, made))[0]


def test_tuning_noise_has_the_degrees_of_freedom_that_were_measured(monkeypatch):
    """Two placebos tell less of it than six, and what is told from 1 is more."""
    made, found = rows(), []
    for df in (2, 60):
        board = dataclasses.replace(make_board(made, TASK, "adamw-ref"), tau=0.02, tau_df=df)
        monkeypatch.setattr(forecast, "make_board", lambda *given, board=board: board)
        found.append(detected(outlook(plan_of("muon"), TASK, made))[0])
    assert found[0] > found[1]
