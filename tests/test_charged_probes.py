"""What a finished run is charged for its probe's calls is held to what they cost at the least."""

import pytest
from planned import entry_at
from synthetic import NANO, record

from bench.passes import Batches, Probed
from bench.submission.probes import of_probe

STEPS = NANO.steps(1.0)
GRAIN = NANO.training.batch_tokens


def said(calls, passes, fresh=0, steps=STEPS, batches=None, outcome="finished"):
    run, entry = record("rho-adamw", "0" * 64, 1.0, 0, outcome=outcome), entry_at("rho-adamw")
    probe = Probed(calls=calls, fresh_tokens=fresh, way=None)
    facts = run.facts.model_copy(update={"probe": probe, "passes": passes, "batches": batches})
    told = of_probe(run.model_copy(update={"facts": facts, "steps": steps}), entry)
    return [key for key, _ in told]


@pytest.mark.parametrize(
    ("calls", "passes"),
    [
        ({}, 1.0),
        ({"gradient": STEPS}, 2.0),
        ({"sampled_gradient": STEPS // 10}, 1 + STEPS // 10 / STEPS),
        ({"logits_along": STEPS}, 1 + 1 / 3),
        ({"logits_along": STEPS}, 1 + 2 / 3),  # central differences
        ({"group_gradients": 4 * STEPS}, 2.0),
        ({"gradient": STEPS, "sequence_jacobian": 1}, 2 + 1 / STEPS),
    ],
)
def test_what_calls_cost_stands_and_a_tenth_less_does_not(calls, passes):
    assert said(calls, passes) == []
    less = 1.0 if "group_gradients" in calls else 1 + 0.9 * (passes - 1)  # groups cost something
    if passes == 1 + 2 / 3:  # may have been done at a third
        less = 1.2
    assert said(calls, less) == ["facts.passes"] * bool(calls)


def test_fresh_tokens_excuse_no_call_on_the_batch():
    """Half of the steps are made, on half of the tokens, and a gradient of each batch is asked for."""
    fresh, steps = NANO.tokens(1.0) // 2, STEPS // 2
    calls = {"fresh_gradient": steps, "gradient": steps}
    assert said(calls, 1.5, fresh, steps) == said(calls, 1.46, fresh, steps) == []  # a last batch may be a short one
    assert said(calls, 1.0, fresh, steps) == ["facts.passes"]
    assert said({"gradient": steps}, 1.5, fresh, steps) == ["facts.probe.fresh_tokens"]
    assert said(calls, 2.0) == ["facts.probe.fresh_tokens"]


def test_of_a_controller_s_batches_and_a_run_that_ended_early_nothing_is_known():
    batches = Batches(first=GRAIN, last=4 * GRAIN, largest=4 * GRAIN)
    assert said({"gradient": STEPS}, 1.1, batches=batches) == []
    assert said({"gradient": STEPS}, 1.0, batches=batches) == ["facts.passes"]
    assert said({"gradient": 20}, 1.0, outcome="diverged") == []
