"""Wilson's interval: known values, and the coverage it promises."""

import numpy as np
import pytest
from support import unchecked

from minimllm.lessons.intervals import wilson_interval


def test_a_published_value():
    low, high = wilson_interval(81, 263)  # Newcombe (1998), table I, method 3
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


def test_the_ends_stay_inside_and_are_never_nothing():
    for hits in (0, 20):
        low, high = wilson_interval(hits, 20)
        assert 0 <= low < high <= 1 and high - low > 0.1


def test_it_covers_the_truth_about_95_times_in_100():
    generator = np.random.default_rng(0)
    for share in (0.5, 0.9, 0.98):
        hits = generator.binomial(300, share, size=4000)
        covered = np.mean([low <= share <= high for low, high in (wilson_interval(int(count), 300) for count in hits)])
        assert 0.93 < covered < 0.97


@pytest.mark.parametrize("hits, count", [(1, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(hits, count):
    with unchecked(), pytest.raises(ValueError, match=f"got {hits} of {count}"):
        wilson_interval(hits, count)
