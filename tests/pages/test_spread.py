"""Work spread over cores: the same results in the same order, and a failure that reaches the one who asked."""

import os

import pytest

from bench.errors import BenchError
from bench.pages.drawing import draw
from bench.pages.spread import in_a_share, spread

SHARED = hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) > 1
shared = pytest.mark.skipif(not SHARED, reason="one core, or no way to know how many")


@pytest.mark.parametrize("count", [0, 5, 200])
def test_results_come_in_the_order_of_the_items(count):
    factor = 3  # of this function's frame: what is forked needs no pickling
    assert list(spread(lambda item: item * factor, range(count), few=10)) == [3 * item for item in range(count)]


@shared
def test_many_items_are_made_elsewhere_and_few_here():
    here = os.getpid()
    assert set(spread(lambda _: (os.getpid() == here, in_a_share()), range(5), few=10)) == {(True, False)}
    assert set(spread(lambda _: (os.getpid() == here, in_a_share()), range(200), few=10)) == {(False, True)}
    assert not in_a_share()


def test_what_fails_in_a_share_fails_here_with_its_words():
    def work(item: int) -> int:
        if item == 150:
            raise BenchError("the record is not ours", "look at it")
        return item

    with pytest.raises(BenchError, match="not ours") as caught:
        list(spread(work, range(200), few=10))
    assert caught.value.hint == "look at it"


@shared
def test_vega_is_refused_where_it_would_wait_for_ever():
    with pytest.raises(AssertionError, match="Vega"):
        list(spread(lambda _: draw({"mark": "point", "data": {"values": []}}, "t", "d", "n"), range(200), few=10))
