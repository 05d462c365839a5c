"""Which token comes next: the likeliest, or one drawn (nucleus sampling, Holtzman et al., 2020)."""

import numpy as np


class Sampler:
    """`temperature` 0 takes the likeliest token; `top_p` 1 draws from all. Equal seeds draw equally."""

    def __init__(self, temperature, top_p, seed):
        self.temperature = temperature
        self.top_p = top_p
        self.random = np.random.default_rng(None if seed is None else seed % 2**64)

    def draw(self, logits):
        """A token by its logits FP32 [vocabulary]. Raises ArithmeticError when these are not numbers."""
        highest = logits.max()
        if not np.isfinite(highest):
            raise ArithmeticError("the network answered what is not a number")
        if self.temperature == 0:
            return int(logits.argmax())
        with np.errstate(over="ignore"):  # at a temperature near 0 all but the likeliest are infinitely far away
            likelihoods = np.exp((logits - highest).astype(np.float64) / self.temperature)
        likelihoods /= likelihoods.sum()
        # All that are less likely than this have less than 1 - top_p together, so the nucleus is among the others.
        tokens = np.flatnonzero(likelihoods >= (1 - self.top_p) / len(likelihoods))
        if self.top_p < 1:
            tokens = tokens[np.argsort(-likelihoods[tokens], kind="stable")]
            nucleus = np.searchsorted(np.cumsum(likelihoods[tokens]), self.top_p) + 1
            tokens = tokens[:nucleus]
        sums = np.cumsum(likelihoods[tokens])
        return int(tokens[np.searchsorted(sums[:-1], self.random.random() * sums[-1], side="right")])
