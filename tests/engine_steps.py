"""Steps of an engine that several tests take."""

from phi_backends.engine import TokenSequence


def go_on(sequence: TokenSequence, tokens: int = 12) -> list[int]:
    """The next greedy tokens, all but the last of them appended."""
    ids: list[int] = []
    for _ in range(tokens):
        if ids:
            sequence.append(ids[-1:])
        ids.append(sequence.next().id)
    return ids
