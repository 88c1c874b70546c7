"""What code does, in Markdown that arrives piece by piece. Also the command line's.

A model too small to explain code truthfully gets help: the outline that the syntax gives comes first, and its own sentence is marked.
Not here: where the text is shown (views.py, explain.py), what the outline says (outline.py).
"""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from phi_backends.client import Client
from phi_backends.errors import BadInput
from phi_backends.messages import Loaded, Priority
from phi_prompts import tasks
from phi_prompts.chat import FORMATS, continued
from phi_prompts.prompt import Prompt
from phi_server.context import surroundings
from phi_server.documents import Range, Snapshot, whole_lines
from phi_server.outline import outline, to_markdown
from phi_server.redact import redacted
from phi_server.settings import Settings

SMALL = "small"
"""The templates of models that follow no instructions."""
SENTENCE_TOKENS = 64


@dataclass(frozen=True)
class Thread:
    """What was asked and answered, for a further question."""

    model: str
    chat_format: str
    prompt: Prompt
    answer: str


class Explanation:
    """The text as it comes: iterate once. Leaving the iteration by cancelling it stops the engine within a step."""

    def __init__(self, snapshot: Snapshot, range: Range, client: Client, settings: Settings) -> None:
        self._snapshot = snapshot
        self._range = whole_lines(snapshot, range)
        self._client = client
        self._settings = settings
        self.timings_ms: dict[str, float] = {}
        """`first_text` and `total`, from the start of the iteration; complete when it has ended."""
        self.thread: Thread | None = None
        """When the iteration has ended; None for models that cannot be asked further."""

    async def __aiter__(self) -> AsyncIterator[str]:
        """Raises PhiError when there is no engine or it fails."""
        started = time.perf_counter()
        loaded = await self._client.loaded()
        pieces = self._small(loaded) if loaded.templates == SMALL else self._answer(loaded, self._settings.max_answer_tokens)
        async for piece in pieces:
            self.timings_ms.setdefault("first_text", 1000 * (time.perf_counter() - started))
            yield piece
        self.timings_ms["total"] = 1000 * (time.perf_counter() - started)

    async def _small(self, loaded: Loaded) -> AsyncIterator[str]:
        code = self._snapshot.text(self._range)
        yield to_markdown(outline(code, self._snapshot.language_id))
        label = f"\nThe outline above comes from the syntax. A guess by {loaded.model}, a small model that is often wrong: "
        async for piece in self._answer(loaded, SENTENCE_TOKENS):
            if label and not (piece := piece.lstrip()):
                continue
            yield label + piece
            label = ""

    async def _answer(self, loaded: Loaded, max_tokens: int) -> AsyncIterator[str]:
        question = tasks.explain(FORMATS[loaded.chat_format], loaded.templates, **surroundings(self._snapshot, self._range, loaded))
        text = ""
        with self._client.generate(question.prompt, max_tokens=max_tokens, priority=Priority.ANSWER, stop=question.stop) as generation:
            async for piece in generation:
                text += piece.text
                yield piece.text
        if loaded.templates != SMALL:
            self.thread = Thread(loaded.model, loaded.chat_format, question.prompt, text)


class FollowUp:
    """The answer to a further question, as it comes: iterate once."""

    def __init__(self, thread: Thread, question: str, client: Client, settings: Settings) -> None:
        self._prompt = continued(FORMATS[thread.chat_format], thread.prompt, thread.answer, "".join(redacted([question])))
        self._client = client
        self._settings = settings
        self.thread = thread
        """With this question, when the iteration has ended."""

    async def __aiter__(self) -> AsyncIterator[str]:
        """Raises PhiError when there is no engine or it fails, or when it is another model's thread."""
        loaded = await self._client.loaded()
        if loaded.model != self.thread.model:
            raise BadInput(f"This was explained by {self.thread.model}, which does not run any more. Have it explained again.")
        text = ""
        max_tokens = self._settings.max_answer_tokens
        with self._client.generate(self._prompt, max_tokens=max_tokens, priority=Priority.ANSWER) as generation:
            async for piece in generation:
                text += piece.text
                yield piece.text
        self.thread = replace(self.thread, prompt=self._prompt, answer=text)


def explain(snapshot: Snapshot, range: Range, client: Client, settings: Settings) -> Explanation:
    """The explanation of the lines that `range` touches."""
    return Explanation(snapshot, range, client, settings)
