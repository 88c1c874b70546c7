"""Draft tokens: what came next where the text was the same before. The engine checks several in one forward pass. Pure.

Code repeats itself, and an edit repeats what it edits. On a 3.8 B model and two cores 4 tokens cost 1.6 decode steps, 8 cost 2, 16 cost
2.6. Counted over the real next lines of 186 places in CPython's library, after 150 lines of context and with Phi-3's tokens, six lines
take 15 % less time and one line 6 % less; with drafts of always 15 tokens 6 % less and 1 % more. So none is longer than its match.
The embedded model, which repeats itself more, writes 60 tokens in 73 % of the time (60 files of that library).
"""

from collections.abc import Sequence

LEAST_MATCH = 3
"""Tokens, about 10 characters. With 2 no more is saved, and with 4 a little less."""
LONGEST_MATCH = 15
NEWEST_PLACES = 32
"""Of those where the last tokens were seen before; in a file of one repeated line there are as many as lines."""


class Drafts:
    """The places of every `LEAST_MATCH` tokens of a text that grows."""

    def __init__(self) -> None:
        self._places: dict[tuple[int, ...], list[int]] = {}
        """Where the text goes on behind them, oldest first."""
        self._known = LEAST_MATCH

    def next(self, ids: Sequence[int], most: int) -> list[int]:
        """What may come behind `ids`, at most as many as match before, and `most`. `ids` begins with what it was at the last call."""
        for end in range(self._known, len(ids)):
            self._places.setdefault(tuple(ids[end - LEAST_MATCH : end]), []).append(end)
        self._known = max(self._known, len(ids))
        places = self._places.get(tuple(ids[-LEAST_MATCH:]), [])[-NEWEST_PLACES:]
        matches = [(_match(ids, place), place) for place in places]
        length, place = max(matches, default=(0, 0))
        return list(ids[place : place + min(length, most)])


def _match(ids: Sequence[int], place: int) -> int:
    """How many tokens before `place` are those at the end."""
    length = LEAST_MATCH
    while length < min(LONGEST_MATCH, place) and ids[place - length - 1] == ids[-length - 1]:
        length += 1
    return length
