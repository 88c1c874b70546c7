"""What was suggested lately, and whether it still fits where the cursor is now: answers that run no model. Pure.

One rule keeps it honest: to accept what is remembered gives the document that accepting the suggestion would have given when it was new.
Where that cannot be shown, nothing is remembered.
"""

from collections import OrderedDict
from dataclasses import dataclass
from itertools import islice

from phi_server.postprocess import Site, overwritten

REMEMBERED = 250
"""Suggestions, of all documents; llama.vim and Cody keep as many."""
LOOK_BACK = 8
"""Of a document's newest suggestions, so many are tried for one that the user is typing: the one on show, and those before a detour."""


@dataclass(frozen=True)
class Place:
    uri: str
    line: int
    site: Site

    def typed_since(self, before: "Place") -> str | None:
        """What was typed between `before` and here, with line feeds; None when the code around it is not the same any more.

        The lines that a site holds are compared, which is what a suggestion was cut to fit.
        """
        lines, old = self.line - before.line, before.site
        above = (*self.site.before, self.site.head)
        if self.uri != before.uri or not 0 <= lines < len(above) or self.site.after != old.after:
            return None
        first = len(above) - 1 - lines
        compared = min(first, len(old.before))
        if above[first - compared : first] != old.before[len(old.before) - compared :] or not above[first].startswith(old.head):
            return None
        return "\n".join((above[first][len(old.head) :], *above[first + 1 :]))


@dataclass(frozen=True)
class Suggestion:
    place: Place
    text: str
    """With line feeds; empty: nothing worth showing."""
    overwrites: int = 0
    """Characters right of the cursor that `text` takes the place of."""
    probability: float | None = None
    is_rest: bool = False
    """Its beginning was typed: it was on show before."""
    is_copy: bool = False
    """From the open documents, without the model."""

    def continued(self, place: Place) -> "Suggestion | None":
        """What is left of it at `place`, where its beginning was typed; None where it does not fit, or nothing is left."""
        typed = place.typed_since(self.place)
        if typed is None or place.site.max_lines > self.place.site.max_lines or not self.text.startswith(typed):
            return None
        left = self.text[len(typed) :]
        if place == self.place:
            return self if left else None
        # Editors close brackets by themselves: those may have come, and the text must bring them itself, so that it takes their place.
        overwrites = overwritten(left, place.site.rest)
        if not left or place.site.rest[overwrites:] != self.place.site.rest[self.overwrites :]:
            return None
        return Suggestion(place, left, overwrites, self.probability, is_rest=typed != "", is_copy=self.is_copy)


class Suggestions:
    """The newest `REMEMBERED` of them, also of places where there was nothing to suggest."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, Site], Suggestion] = OrderedDict()

    def remember(self, suggestion: Suggestion) -> None:
        key = (suggestion.place.uri, suggestion.place.site)
        self._known[key] = suggestion
        self._known.move_to_end(key)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def recall(self, place: Place) -> Suggestion | None:
        """What can be shown at `place`: the rest of a suggestion that is being typed, or what was suggested at such a place before."""
        newest = (one for one in reversed(self._known.values()) if one.place.uri == place.uri)
        for suggestion in islice(newest, LOOK_BACK):
            if (rest := suggestion.continued(place)) is not None:
                return rest
        known = self._known.get((place.uri, place.site))
        return None if known is None else Suggestion(place, known.text, known.overwrites, known.probability, is_copy=known.is_copy)

    def clear(self) -> None:
        """For another model or other settings."""
        self._known.clear()
