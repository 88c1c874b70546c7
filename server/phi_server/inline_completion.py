"""textDocument/inlineCompletion: what could come next at the cursor. `complete` is also the command line's and the fallback's.

Here: gate → prompt → generate, stopping as early as the text allows → post-processing → the likelier of the model's line and a copy.
Not here: when that is not needed at all (ladder.py), the copy (local_completion.py), taking over from an older request (session.py), the
fallback for editors without ghost text (completion.py).
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from phi_backends.client import Client, Generation
from phi_backends.errors import PhiError
from phi_backends.messages import Loaded, Priority
from phi_prompts import tasks
from phi_prompts.chat import FORMATS
from phi_server.context import CHARACTERS_PER_TOKEN, lines_above, lines_below
from phi_server.documents import Position, Range, Snapshot
from phi_server.explanation import SMALL
from phi_server.gate import reason_for_silence
from phi_server.local_completion import Guess, both, guess, likelier
from phi_server.postprocess import Cleaned, Site, clean, cut_block, cut_next_lines, in_place, opens_block, without_last_line
from phi_server.redact import begins_secret, is_secret_file, redacted_line, restored
from phi_server.related import NOTHING, Context
from phi_server.settings import Settings
from phi_server.unwrap import is_introduction, is_over

if TYPE_CHECKING:  # a third of a second of start-up, which the command line does not need
    from lsprotocol import types

    from phi_server.session import Session

logger = logging.getLogger(__name__)

LEAST_SO_FAR = 8
"""Characters of an unfinished line that are worth showing before the rest."""
_FRAGMENT = re.compile(r"[ \t]?\w*$")


@dataclass(frozen=True)
class Completion:
    text: str
    """With the document's line ends."""
    range: Range
    """What `text` takes the place of: nothing, or closers right of the cursor that it brings along. On the cursor's line."""
    probability: float | None
    """How likely its first line is right, as the model or the copy says; None where the runtime does not show it."""
    timings_ms: dict[str, float]
    """`first_text` and `total`, from the call on."""
    is_rest: bool = False
    """Of a suggestion that was on show before, and whose beginning was typed."""
    is_copy: bool = False
    """From the open documents, without the model."""


async def complete(
    snapshot: Snapshot,
    position: Position,
    client: Client,
    settings: Settings,
    *,
    invoked: bool = False,
    priority: Priority = Priority.COMPLETION,
    on_text: Callable[[str], None] = lambda text: None,
    context: Callable[[Snapshot, Position], Context | None] = lambda snapshot, position: NOTHING,
    local: Callable[[Snapshot, Position, Site], Guess | None] = guess,
) -> Completion | None:
    """What could come next; None when there is nothing worth showing. Cancelling it stops the engine within a step.

    `invoked`: somebody asked for it and waits, so it may be several lines. `on_text` is called with all text so far, as the model writes
    it. `context` gathers what else of the project the model is shown; None: not even this document. `local` copies. Raises PhiError
    when there is no engine or it fails.
    """
    started = time.perf_counter()
    position = snapshot.clamp(position)
    loaded = await client.loaded()
    site = site_at(snapshot, position, settings, invoked)
    if reason_for_silence(site, invoked) is not None or not may_ask(snapshot, site) or (about := context(snapshot, position)) is None:
        return None
    copy = local(snapshot, position, site)
    timings: dict[str, float] = {}
    best = copy
    if copy is None or invoked or not copy.is_sure_at(site):
        question, heal = ask(snapshot, position, loaded, about)
        generation = client.generate(
            question.prompt,
            max_tokens=settings.max_completion_tokens,
            priority=priority,
            stop=("\n",) if site.max_lines == 1 and loaded.templates == SMALL else (),  # a chat model may begin with another line
            heal=heal,
            deadline_ms=None if invoked or priority == Priority.IDLE else settings.deadline_ms,
        )

        def on_piece(text: str) -> None:
            timings.setdefault("first_text", 1000 * (time.perf_counter() - started))
            on_text(text)

        written = await write(generation, snapshot, site, on_piece, copy, 0.0 if invoked else settings.min_probability)
        best = likelier(written, copy)
    if best is None or not (invoked or best.probability is None or best.probability >= settings.min_probability):
        return None
    timings["total"] = 1000 * (time.perf_counter() - started)
    end = Position(position.line, position.character + best.overwrites)
    return Completion(best.text, Range(position, end), best.probability, {"first_text": timings["total"], **timings}, is_copy=best is copy)


async def write(
    generation: Generation, snapshot: Snapshot, site: Site, on_text: Callable[[str], None], copy: Guess | None, min_probability: float
) -> Guess | None:
    """What the model writes, as far as it can be inserted. Stops it as soon as it is over, or is not going to be likely enough."""
    text = ""
    probability: float | None = 1.0  # of the first line, by which one decides
    with generation:
        async for piece in generation:
            is_first_line = "\n" not in text.lstrip()
            text += piece.text
            on_text(text)
            if is_first_line:
                probability = None if probability is None or piece.probability is None else probability * piece.probability
                if is_unlikely(text, probability, copy, min_probability):
                    return None
            if is_complete(text, site):
                break
    if generation.done is not None and generation.done.reason == "length":
        text = without_last_line(text)
    cleaned = clean(restored(text, snapshot.lines), site)
    return None if cleaned is None else Guess(cleaned.text, cleaned.overwrites, probability)


def is_unlikely(text: str, probability: float | None, copy: Guess | None, min_probability: float) -> bool:
    """Whether a first line that begins with `text` will not be likely enough."""
    if copy is not None and copy.text.startswith(text.split("\n")[0].rstrip()):
        probability = both(probability, copy.probability)
    return probability is not None and probability < min_probability


async def prefill(
    snapshot: Snapshot, position: Position, client: Client, settings: Settings, context: Callable[[Snapshot, Position], Context | None]
) -> None:
    """Has the prompt of a completion run into the KV cache, when the engine has nothing else to do. Raises PhiError as `complete` does."""
    position = snapshot.clamp(position)
    loaded = await client.loaded()
    if not may_ask(snapshot, site_at(snapshot, position, settings)) or (about := context(snapshot, position)) is None:
        return
    question, _ = ask(snapshot, position, loaded, about)
    tokens = settings.max_completion_tokens  # not 0: for more or less room, the prompt would be cut elsewhere, and be of no use
    with client.generate(question.prompt, max_tokens=tokens, priority=Priority.IDLE, prefill_only=True) as generation:
        async for _ in generation:
            pass


def may_ask(snapshot: Snapshot, site: Site) -> bool:
    """Whether the model may see the document, and the line that is being written."""
    return not begins_secret(site.head) and not is_secret_file(snapshot.path)


def site_at(snapshot: Snapshot, position: Position, settings: Settings, invoked: bool = False) -> Site:
    """What is around the cursor, as post-processing needs it, and how many lines are wanted."""
    line = snapshot.line(position.line)
    head, rest = line[: position.character], line[position.character :]
    before = tuple(snapshot.line(number) for number in range(max(0, position.line - 200), position.line))
    above = next((text for text in reversed(before) if text.strip()), "")
    fresh = not line.strip() and opens_block(above, snapshot.language_id)
    return Site(
        snapshot.language_id,
        before,
        head,
        rest,
        after=tuple(snapshot.line(number) for number in range(position.line + 1, min(position.line + 200, len(snapshot.lines)))),
        newline=snapshot.newline,
        max_lines=settings.max_completion_lines if (invoked or fresh) and not rest.strip() else 1,
    )


def ask(snapshot: Snapshot, position: Position, loaded: Loaded, about: Context = NOTHING) -> tuple[tasks.Question, str]:
    """The question to the model, and the text that its answer must begin with.

    Models read code in tokens that begin with a blank and go on to the end of a word: `·return` is one, and so the last blank of an
    indentation belongs to it. A prompt that ends inside such a token is one that the model has never seen, so the piece before the
    cursor is left out of the prompt and forced instead. Measured on held-out code, this doubles the right answers.
    """
    head = snapshot.line(position.line)[: position.character]
    match = _FRAGMENT.search(head)
    heal = match[0] if match and redacted_line(head) == head else ""
    budget = CHARACTERS_PER_TOKEN * loaded.context_tokens
    first, before = lines_above(snapshot, position.line, budget)
    shown = [*before, redacted_line(head)[: len(head) - len(heal)] if heal else redacted_line(head)]
    if not head and before:  # a line break and the indentation behind it are one token, too
        heal, shown = "\n", [*before[:-1], before[-1].rstrip("\r\n")]
    question = tasks.complete(
        FORMATS[loaded.chat_format],
        loaded.templates,
        path=snapshot.path,
        language_id=snapshot.language_id,
        before=shown,
        after=lines_below(snapshot, position.line + 1, budget),
        first_line=first,
        context=about.code,
        problems=about.problems,
        indent=about.indent,
    )
    return question, heal


def is_complete(text: str, site: Site) -> bool:
    """Whether more text would be cut away again: the block has ended, or the next lines of the document have begun."""
    if is_over(text, site):
        return True
    if is_introduction(text, site):
        return False
    text = in_place(text, site)
    lines, newline, last = text.rpartition("\n")
    if site.max_lines == 1:
        return bool(newline)
    known = text if last.strip() else lines  # blanks alone do not tell yet how deep the line will be
    if lines.strip() and len(lines.lstrip("\n").split("\n")) >= site.max_lines:
        return True
    return cut_block(known, site) != known or cut_next_lines(lines, site) != lines


def so_far(text: str, site: Site) -> Cleaned | None:
    """What can be shown of a text that is still being written: whole lines, or of a single one what ends at a word's end with its
    brackets closed."""
    if is_introduction(text, site):
        return None
    lines, newline, _ = text.rpartition("\n")
    if newline and lines.strip():
        return clean(lines, site)
    ends = [match.start() for match in re.finditer(r"(?<=\w)\W|(?<=[)\]}])", text)]
    whole = [text[:end] for end in ends if all(text[:end].count(a) == text[:end].count(b) for a, b in ("()", "[]", "{}"))]
    if not whole or len(whole[-1].strip()) < LEAST_SO_FAR or any(quote in whole[-1] for quote in "\"'`"):
        return None
    return clean(whole[-1], site)


async def inline_completion(session: Session, params: types.InlineCompletionParams) -> types.InlineCompletionList | None:
    """None when there is nothing to show. Where the engine is not ready, there are only copies: the status tells why."""
    from lsprotocol import types

    if not session.settings.inline_completion:
        return None
    session.wake()
    snapshot = session.snapshot(params.text_document.uri)
    position = session.position(snapshot, params.position)
    invoked = params.context.trigger_kind == types.InlineCompletionTriggerKind.Invoked
    completion = None
    with session.newest(snapshot.uri):
        completion = await when_typing_pauses(snapshot, position, session, invoked)
    if completion is None:
        return None
    session.shown += not completion.is_rest
    number = session.note_shown(snapshot, completion.range, completion.text)
    accepted = types.Command(title="Accepted", command="phi-ls.accepted", arguments=number)
    item = types.InlineCompletionItem(completion.text, range=session.lsp_range(snapshot, completion.range), command=accepted)
    return types.InlineCompletionList([item])


async def when_typing_pauses(snapshot: Snapshot, position: Position, session: Session, invoked: bool) -> Completion | None:
    """A suggestion by way of the ladder. An engine that fails costs the suggestion, no error that pops up
    while one types; the status tells of it."""
    position = snapshot.clamp(position)
    started = time.perf_counter()
    try:
        found = await session.ladder.suggest(snapshot, position, invoked=invoked)
    except PhiError as error:
        if invoked:
            raise
        logger.warning("No suggestion: %s", error)
        return None
    if found is None:
        session.ahead.moved(snapshot, position)
        return None
    session.ahead.shown(snapshot, position, found)
    end = Position(position.line, position.character + found.overwrites)
    text = found.text.replace("\n", snapshot.newline)
    timings = {"total": 1000 * (time.perf_counter() - started)}
    return Completion(text, Range(position, end), found.probability, timings, found.is_rest, found.is_copy)
