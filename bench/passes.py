"""What a record tells of an entry that asks for more than the common course: passes, fresh tokens, its own batches."""

from bench.spec import Spec


class Probed(Spec):
    """What an entry asked of its probe."""

    calls: dict[str, int]  # of each kind
    fresh_tokens: int  # of the separate stream, counted among the run's tokens
    way: str | None  # how derivatives along a direction were taken


class CallCost(Spec):
    """All calls of one kind."""

    seconds: float
    peak_memory_bytes: int  # in the largest: allocated on a GPU, of the process on a CPU


class Batches(Spec):
    """Tokens of the batches that a controller chose."""

    first: int
    last: int
    largest: int


def own_order(probe: Probed | None, batches: Batches | None) -> str | None:
    """Return why a run's token order is not that of other entries, or None where it is."""
    if batches:
        return f"a batch-size controller: its batches have {batches.first:,} to {batches.largest:,} tokens"
    if probe and probe.fresh_tokens:
        return f"{probe.fresh_tokens:,} fresh tokens of its probe shortened the run"
    return None
