"""What is remembered of suggestions: never anything that does not fit the document; and the pause before the model is asked."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from phi_server.documents import Position, Range, Snapshot
from phi_server.inline_completion import site_at
from phi_server.pace import LEAST_MS, Pace
from phi_server.postprocess import overwritten
from phi_server.settings import Settings
from phi_server.suggestions import LOOK_BACK, REMEMBERED, Place, Suggestion, Suggestions

URI = "file:///shop/shop.py"


def document(text: str) -> Snapshot:
    return Snapshot.of_text(URI, 1, "python", text)


def place(snapshot: Snapshot, position: Position) -> Place:
    return Place(URI, position.line, site_at(snapshot, position, Settings()))


def place_in(text: str) -> Place:
    """The cursor is at the mark."""
    before, after = text.split("|")
    lines = before.split("\n")
    return place(document(before + after), Position(len(lines) - 1, len(lines[-1])))


def suggested(text: str, answer: str) -> Suggestion:
    at = place_in(text)
    return Suggestion(at, answer, overwritten(answer, at.site.rest))


def accepted(snapshot: Snapshot, position: Position, suggestion: Suggestion) -> str:
    end = Position(position.line, position.character + suggestion.overwrites)
    return snapshot.replaced(Range(position, end), suggestion.text)


CODE = st.text(alphabet='ab(). "\n', max_size=12)
POSITIONS = st.tuples(st.integers(0, 3), st.integers(0, 6))


@given(before=CODE, after=CODE, answer=CODE, typed=CODE, edit=st.sampled_from(["", ")", '"', "x", "\n"]), drop=st.integers(0, 2))
def test_accepting_what_is_remembered_gives_what_accepting_the_suggestion_gave(
    before: str, after: str, answer: str, typed: str, edit: str, drop: int
) -> None:
    """Whatever was typed or changed in between: beginnings of the answer and others, closers that an editor adds, edits elsewhere."""
    old = document(before + after)
    lines = before.split("\n")
    position = Position(len(lines) - 1, len(lines[-1]))
    suggestion = Suggestion(place(old, position), answer, overwritten(answer, old.line(position.line)[position.character :]))
    for text in (*(answer[:length] for length in range(len(answer))), typed):
        start = before[: max(0, len(before) - drop)] + text
        now = document(start + edit + after)
        now_lines = start.split("\n")
        cursor = Position(len(now_lines) - 1, len(now_lines[-1]))
        known = Suggestions()
        known.remember(suggestion)
        left = known.recall(place(now, cursor))
        if left is not None and left.text:
            # An empty last line is none that a site can see, and no suggestion depends on it.
            assert accepted(now, cursor, left).rstrip("\n") == accepted(old, position, suggestion).rstrip("\n")
        elif not (text == typed or edit or drop or suggestion.place.site.rest) and place(now, cursor).site.max_lines == 1:
            raise AssertionError("what was typed through was forgotten")


def test_typing_through_a_suggestion_leaves_its_rest() -> None:
    known = Suggestions()
    known.remember(suggested("x = |\ny = 2\n", "first + second"))
    rest = known.recall(place_in("x = first|\ny = 2\n"))
    assert rest is not None
    assert rest.text == " + second"
    assert known.recall(place_in("x = fiv|\ny = 2\n")) is None
    assert known.recall(place_in("x = first|\ny = 3\n")) is None


def test_a_bracket_that_the_editor_closed_is_taken_over() -> None:
    known = Suggestions()
    known.remember(suggested("x = |\n", "len(items) + 1"))
    known.remember(suggested("y = |\n", "len(items)"))
    rest = known.recall(place_in("y = len(|)\n"))
    assert rest is not None
    assert (rest.text, rest.overwrites) == ("items)", 1)


def test_typing_through_line_ends() -> None:
    known = Suggestions()
    known.remember(suggested("def f():\n    |\n", "a = 1\n    return a"))
    rest = known.recall(place_in("def f():\n    a = 1\n    re|\n"))
    assert rest is not None
    assert rest.text == "turn a"


def test_deleting_back_meets_what_was_suggested_there() -> None:
    known = Suggestions()
    first = suggested("x = |\n", "first")
    known.remember(first)
    known.remember(suggested("x = s|\n", "econd"))
    assert known.recall(place_in("x = |\n")) == first


def test_nothing_worth_showing_is_remembered_for_its_own_place_alone() -> None:
    known = Suggestions()
    known.remember(suggested("x = |\n", ""))
    nothing = known.recall(place_in("x = |\n"))
    assert nothing is not None
    assert nothing.text == ""
    assert known.recall(place_in("x = f|\n")) is None


def test_the_oldest_are_forgotten() -> None:
    known = Suggestions()
    first = suggested("x = |\n", "first")
    known.remember(first)
    for number in range(LOOK_BACK):
        known.remember(suggested(f"{number} = |\n", "another"))
    assert known.recall(place_in("x = f|\n")) is None
    assert known.recall(place_in("x = |\n")) == first
    for number in range(REMEMBERED):
        known.remember(suggested(f"value_{number} = |\n", "another"))
    assert known.recall(place_in("x = |\n")) is None


def paced(gap_ms: float, answer_ms: float = 0) -> Callable[[str], float]:
    pace = Pace()
    for key in range(30):
        pace.key(key * gap_ms)
    pace.answered(answer_ms)
    return lambda text: pace.pause_ms(place_in(text).site, 10_000)


def test_the_pause_is_longer_for_who_types_slowly_and_shorter_where_a_word_ends() -> None:
    assert paced(300)("x = fi|\n") > paced(120)("x = fi|\n") > paced(120)("x = |\n")
    assert paced(120, answer_ms=150)("x = fi|\n") < paced(120)("x = fi|\n")
    assert paced(120, answer_ms=5000)("x = |\n") == LEAST_MS
    assert paced(300, answer_ms=10)("x = fi|\n") == LEAST_MS  # a fast model may write what nobody waits for
    assert paced(5000)("x = fi|\n") == paced(200)("x = fi|\n")  # pauses say nothing of the pace


def test_the_pause_is_never_longer_than_the_user_allows() -> None:
    assert Pace().pause_ms(place_in("x = fi|\n").site, 50) == 50
    assert Pace().pause_ms(place_in("x = fi|\n").site, 0) == 0
