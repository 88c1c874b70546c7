"""From logits to the next token: greedy or by chance, with a mask of what is allowed. NumPy only."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

TOP_P = 0.95
"""By chance means: among the likeliest tokens that make up this much of the probability. The tail holds what breaks code."""


def choose(
    logits: NDArray[np.float32],
    temperature: float,
    allowed: Sequence[int] | None,
    random: np.random.Generator,
) -> tuple[int, float]:
    """The chosen token's id and the probability that the model gave it, before temperature and mask. `logits`: [vocabulary]."""
    candidates = np.arange(len(logits)) if allowed is None else np.asarray(allowed)
    scores = logits[candidates]
    at = int(scores.argmax()) if temperature <= 0 else _draw(scores / temperature, random)
    chosen = int(candidates[at])
    return chosen, float(1 / np.exp(logits - logits[chosen]).sum(dtype=np.float64))


def _draw(scores: NDArray[np.float32], random: np.random.Generator) -> int:
    """An index into `scores`, drawn from their softmax cut off at TOP_P."""
    order = np.argsort(scores)[::-1]
    weights = np.exp(scores[order] - scores[order[0]], dtype=np.float64)
    cumulative = np.cumsum(weights)
    kept = int(np.searchsorted(cumulative, TOP_P * cumulative[-1])) + 1
    return int(order[np.searchsorted(cumulative[:kept], random.random() * cumulative[kept - 1], side="right")])
