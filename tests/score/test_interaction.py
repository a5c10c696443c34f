"""What a mode does to an entry beyond what it does to the reference: paired by seed, with the width that this gives."""

import numpy as np
import pytest
from scipy import stats

from bench.score.interaction import Rounded, interaction, ranks

REFERENCE = Rounded({0: 2.0, 1: 2.1, 2: 1.9}, {0: 2.2, 1: 2.29, 2: 2.12})
ENTRY = Rounded({0: 1.8, 1: 1.85, 2: 1.7}, {0: 1.9, 1: 1.96, 2: 1.81})


def test_it_is_the_difference_of_differences_with_students_interval():
    found = interaction(ENTRY, REFERENCE)
    differences = [0.1 - 0.2, 0.11 - 0.19, 0.11 - 0.22]
    assert found.value == pytest.approx(np.mean(differences))
    wanted = stats.t.interval(0.95, 2, np.mean(differences), stats.sem(differences))
    assert (found.value - found.margin, found.value + found.margin) == pytest.approx(wanted)
    assert found.told and found.seeds == 3
    assert found.degradation - found.reference == pytest.approx(found.value)


def test_the_reference_against_itself_has_none():
    found = interaction(REFERENCE, REFERENCE)
    assert found.value == 0 and found.margin is None and not found.told


def test_only_shared_seeds_are_paired_and_one_alone_has_no_interval():
    assert interaction(Rounded({7: 1.0}, {7: 1.1}), REFERENCE) is None
    alone = interaction(Rounded({1: 1.85, 9: 5.0}, {1: 1.96, 9: 9.0}), REFERENCE)
    assert alone.seeds == 1 and alone.margin is None and alone.value == pytest.approx(0.11 - 0.19)


def test_the_interval_covers_what_it_says():
    rng, held = np.random.default_rng(0), 0
    for _ in range(400):
        shared = rng.normal(0, 0.05, 3)  # a seed's noise is in float and in the mode, and in both entries
        ref = Rounded(dict(enumerate(2 + shared)), dict(enumerate(2.2 + shared + rng.normal(0, 0.002, 3))))
        own = Rounded(dict(enumerate(1.9 + shared)), dict(enumerate(2.05 + shared + rng.normal(0, 0.002, 3))))
        found = interaction(own, ref)
        held += abs(found.value + 0.05) <= found.margin
    assert 0.92 < held / 400 < 0.98


def test_places_are_by_mean_loss_and_equal_means_share_one():
    assert ranks({"a": [2.0, 2.2], "b": [2.1], "c": [1.0], "d": []}) == {"c": 1, "a": 2, "b": 2}
