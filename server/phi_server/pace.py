"""How long to wait before asking the model: the adaptive pause, after Tabby's formula. Pure.

Who types fast is not about to stop, and an answer that takes long should be begun early.
"""

from collections import deque
from statistics import mean

from phi_server.postprocess import Site

GAPS_MS = (100.0, 400.0)
"""The gap between two keys, between which the mean is taken to lie; longer ones than LONGEST_GAP_MS are pauses."""
LONGEST_GAP_MS = 1500.0
FEWEST_GAPS = 20
FIRST_GAP_MS = 200.0
"""Taken for the mean gap until there were FEWEST_GAPS."""
LEAST_MS = 100.0
WASTE = 4.0
"""The pause is at most so many times what an answer takes: of a fast model, answers that nobody waits for cost little."""


class Pace:
    def __init__(self) -> None:
        self._gaps_ms: deque[float] = deque(maxlen=100)
        self._answers_ms: deque[float] = deque(maxlen=10)
        self.last_key_ms: float | None = None

    def key(self, now_ms: float) -> None:
        """A key was struck."""
        if self.last_key_ms is not None and now_ms - self.last_key_ms <= LONGEST_GAP_MS:
            self._gaps_ms.append(now_ms - self.last_key_ms)
        self.last_key_ms = now_ms

    def answered(self, ms: float) -> None:
        """How long the model took for a suggestion."""
        self._answers_ms.append(ms)

    def pause_ms(self, site: Site, most_ms: float) -> float:
        """The pause before a suggestion at `site`: shorter where a word or a line has just ended; `most_ms` is the user's limit."""
        gap = mean(self._gaps_ms) if len(self._gaps_ms) >= FEWEST_GAPS else FIRST_GAP_MS
        gap = max(GAPS_MS[0], min(GAPS_MS[1], gap))
        between_words = not site.head[-1:].isalnum()
        ends_line = not site.rest.strip()
        ends_document = ends_line and not any(line.strip() for line in site.after)
        score = 0.5 * between_words + 0.4 * ends_line + 0.1 * ends_document
        expected = mean(self._answers_ms) if self._answers_ms else 0.0
        pause = (3.0 - 1.5 * score) * gap - expected
        if expected:
            pause = min(pause, WASTE * expected)
        return min(most_ms, max(LEAST_MS, pause))
