"""Which token the generator draws."""

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.inference.generators import backend

sampling = backend("sampling")

LOGITS: NDArray[np.float32] = np.log(np.array([0.5, 0.05, 0.3, 0.15], np.float32))


def shares(temperature: float, top_p: float, draws: int = 4000) -> dict[int, float]:
    sampler = sampling.Sampler(temperature, top_p, 7)
    return {token: count / draws for token, count in Counter(sampler.draw(LOGITS) for _ in range(draws)).items()}


def test_at_temperature_1_each_token_has_its_own_likelihood() -> None:
    assert shares(1, 1) == pytest.approx({0: 0.5, 1: 0.05, 2: 0.3, 3: 0.15}, abs=0.03)


def test_a_higher_temperature_evens_out() -> None:
    roots = np.sqrt([0.5, 0.05, 0.3, 0.15])
    assert shares(2, 1) == pytest.approx(dict(enumerate(roots / roots.sum())), abs=0.03)


@pytest.mark.parametrize("temperature", [0, 1e-300])
def test_near_temperature_0_the_likeliest_is_drawn(temperature: float) -> None:
    assert shares(temperature, 1, draws=20) == {0: 1}


@pytest.mark.parametrize(
    ("top_p", "nucleus"), [(0, {0}), (0.4, {0}), (0.6, {0, 2}), (0.9, {0, 2, 3}), (0.99, {0, 1, 2, 3})]
)
def test_the_nucleus_is_the_fewest_that_have_so_much_together(top_p: float, nucleus: set[int]) -> None:
    drawn = shares(1, top_p)
    likelihoods = {token: float(np.exp(LOGITS[token])) for token in nucleus}
    total = sum(likelihoods.values())
    assert drawn == pytest.approx({token: each / total for token, each in likelihoods.items()}, abs=0.03)


def test_a_large_vocabulary_has_the_nucleus_of_a_full_sort() -> None:
    logits = np.random.default_rng(1).normal(size=50_000).astype(np.float32) * 3
    order = np.argsort(-logits)
    sums = np.cumsum(np.exp(logits[order].astype(np.float64)))
    nucleus = set(order[: np.searchsorted(sums / sums[-1], 0.2) + 1].tolist())
    sampler = sampling.Sampler(1, 0.2, 3)
    assert {sampler.draw(logits) for _ in range(30 * len(nucleus))} == nucleus


def test_what_is_not_a_number_is_nothing_to_draw_from() -> None:
    with pytest.raises(ArithmeticError):
        sampling.Sampler(1, 1, 1).draw(np.array([0, np.nan], np.float32))
