"""The place in a document that a suggestion is for, as the steps of post-processing see it. Plain data."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Site:
    """Where the text will go."""

    language_id: str
    before: tuple[str, ...]
    """Lines above the cursor's, without line ends; the last is the nearest."""
    head: str
    """The cursor's line up to the cursor."""
    rest: str
    """The cursor's line from the cursor on."""
    after: tuple[str, ...]
    """Lines below the cursor's, without line ends."""
    newline: str = "\n"
    max_lines: int = 1
    """More than one: a block is wanted."""

    @property
    def above(self) -> str:
        """The nearest line above that is not blank."""
        return next((line for line in reversed(self.before) if line.strip()), "")
