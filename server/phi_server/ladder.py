"""The request ladder, which stops at the first rung that holds: gate → what is remembered (typed through, or asked before) → a copy that
is sure, or where no model can answer, likely → what is being written → pause → write. Where that would be late, a likely copy.

One completion is written at a time for each document. It belongs to no request: typing on makes the editor give one up and send another,
and what is being written may well be what the next one wants.

Not here: what is remembered and when it fits (suggestions.py), what can be copied (local_completion.py), how long the pause is
(pace.py), prompt and text (inline_completion.py).
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from phi_backends.errors import PhiError
from phi_backends.messages import Priority
from phi_server.documents import Position, Snapshot
from phi_server.gate import reason_for_silence
from phi_server.inline_completion import complete, site_at, so_far
from phi_server.local_completion import Guess
from phi_server.pace import Pace
from phi_server.postprocess import in_place
from phi_server.redact import restored
from phi_server.site import Site
from phi_server.suggestions import Place, Suggestion, Suggestions
from phi_server.unwrap import is_introduction

if TYPE_CHECKING:
    from phi_server.session import Session

logger = logging.getLogger(__name__)

MORE = "$/phi-ls/more"
"""The suggestion on show has become longer: a client may ask for it again. With this name, those who do not know it ignore it."""

ABANDONED_S = 0.3
"""What nobody waits for any more is written on for so long after the text was changed: editors cancel at each key, then ask again."""

SAVING_PAUSE = 2
"""Times the pause, where power is saved."""

TYPING_MS = 60_000.0
"""Who has not typed for so long is reading."""


class Ladder:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._known = Suggestions()
        self._pace = Pace()
        self._writing: dict[str, Draft] = {}

    async def suggest(self, snapshot: Snapshot, position: Position, *, invoked: bool = False) -> Suggestion | None:
        """What to show at `position`; None when there is nothing. Raises PhiError when the engine fails."""
        settings = self._session.settings
        position = snapshot.clamp(position)
        site = site_at(snapshot, position, settings, invoked)
        if not invoked:
            self._pace.key(1000 * time.monotonic())
        if reason_for_silence(site, invoked) is not None:
            return None
        place, paused = Place(snapshot.uri, position.line, site), invoked
        copy = self._likely_copy(snapshot, position, site, invoked) if self._known.recall(place) is None else None
        has_model = self._session.loaded is not None
        if copy is not None and (not has_model or (copy.is_sure_at(site) and not invoked)):
            self.remember(place, copy.text, copy.overwrites, copy.probability, is_copy=True)
        while True:
            if (known := self._known.recall(place)) is not None:
                return known if known.text else None
            if not has_model:
                return None
            draft = self._writing.get(place.uri)
            if draft is not None and not (draft.may_become(place) and draft.has_priority()):
                draft.cancel()
                draft = None
            if draft is None and not paused:
                paused = True
                pause_ms = self._pace.pause_ms(site, settings.debounce_ms) * (SAVING_PAUSE if self._session.saves_power() else 1)
                await anyio.sleep(pause_ms / 1000)
                continue
            if draft is None:
                self._session.ahead.stop()
                draft = self.write(snapshot, position, invoked=invoked)
            late = not invoked and draft.is_late(settings.deadline_ms)
            if late and copy is not None:  # until the model has written what is remembered in its place
                self.remember(place, copy.text, copy.overwrites, copy.probability, is_copy=True)
            if late and (copy is not None or draft.remember_so_far()) and (known := self._known.recall(place)) is not None and known.text:
                draft.shown = known.text
                return known
            await draft.news(None if invoked or late else settings.deadline_ms)
            paused = True
            if draft.cancelled and self._session.loaded is not None:
                await anyio.lowlevel.checkpoint()  # a newer request for the document ends this one here; otherwise, other settings came
                continue
            if draft.ended and draft.place == place:
                if draft.error is not None:
                    raise draft.error
                known = self._known.recall(place)
                return known if known is not None and known.text else None

    def _likely_copy(self, snapshot: Snapshot, position: Position, site: Site, invoked: bool) -> Guess | None:
        """What can be copied, if it is likely enough to be shown without asking a model."""
        copy = self._session.guess(snapshot, position, site)
        if copy is None or copy.probability is None:
            return None
        least = 0.0 if invoked else self._session.eager_settings(snapshot.language_id).min_probability
        return copy if copy.probability >= least else None

    def write(self, snapshot: Snapshot, position: Position, *, invoked: bool = False, priority: Priority = Priority.COMPLETION) -> Draft:
        """Begins to write what comes at `position`, in place of what is being written for the document. When done, it is remembered."""
        site = site_at(snapshot, position, self._session.settings, invoked)
        if (other := self._writing.get(snapshot.uri)) is not None:
            other.cancel()
        place = Place(snapshot.uri, position.line, site)
        draft = self._writing[snapshot.uri] = Draft(self, place)
        draft.begin(snapshot, position, invoked, priority)
        return draft

    async def written(self, uri: str) -> None:
        """Waits until nothing is being written for the document."""
        if (draft := self._writing.get(uri)) is not None:
            await draft.end()

    def is_typing(self) -> bool:
        """Whether somebody has typed lately."""
        return self._pace.last_key_ms is not None and 1000 * time.monotonic() - self._pace.last_key_ms < TYPING_MS

    def remember(self, place: Place, text: str, overwrites: int, probability: float | None, is_copy: bool = False) -> None:
        """`text` in the document's line ends; empty: there is nothing worth showing."""
        self._known.remember(Suggestion(place, text.replace(place.site.newline, "\n"), overwrites, probability, is_copy=is_copy))

    def recall(self, place: Place) -> Suggestion | None:
        return self._known.recall(place)

    def forget(self) -> None:
        """Everything, for another model or other settings."""
        for draft in list(self._writing.values()):
            draft.cancel()
        self._known.clear()


class Draft:
    """A completion that is being written, for whoever waits for it."""

    def __init__(self, ladder: Ladder, place: Place) -> None:
        self.place = place
        self.ended = self.cancelled = False
        self.error: PhiError | None = None
        self.shown = ""
        """What of it was shown at the deadline."""
        self._ladder = ladder
        self._session = ladder._session
        self._version: int | None = None
        self._lines: tuple[str, ...] = ()
        self._priority = Priority.COMPLETION
        self._begun = time.monotonic()
        self._text = ""
        """As the model writes it."""
        self._waiting = 0
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def begin(self, snapshot: Snapshot, position: Position, invoked: bool, priority: Priority) -> None:
        self._version, self._lines, self._priority = snapshot.version, snapshot.lines, priority
        self._task = asyncio.create_task(self._write(snapshot, position, invoked, priority))

    def may_become(self, place: Place) -> bool:
        """Whether what is written so far is what was typed up to `place`, or begins so."""
        typed = place.typed_since(self.place)
        if self.ended or typed is None or place.site.max_lines > self.place.site.max_lines:
            return False
        text = "" if is_introduction(self._text, self.place.site) else in_place(self._text, self.place.site)
        return typed.startswith(text) if len(typed) > len(text) else text.startswith(typed)

    def has_priority(self) -> bool:
        """Whether nothing goes before it that a completion should not wait for: it may have been begun ahead of time."""
        return self._priority == Priority.COMPLETION or not self._session.client.runs(Priority.ANSWER)

    def is_late(self, deadline_ms: float) -> bool:
        """Whether the next token is likely to come behind the deadline."""
        return 1000 * (time.monotonic() - self._begun) + self._session.decode_token_ms >= deadline_ms

    async def news(self, deadline_ms: float | None) -> None:
        """Waits until there is more text, or it has ended, or is late."""
        wait_s = None if deadline_ms is None else self._begun + (deadline_ms - self._session.decode_token_ms) / 1000 - time.monotonic()
        news = self._news
        self._waiting += 1
        try:
            with anyio.move_on_after(wait_s):
                await news.wait()
        except asyncio.CancelledError:
            if self._waiting == 1 and not self.ended:
                self._abandon()
            raise
        finally:
            self._waiting -= 1

    async def end(self) -> None:
        """Waits until it has ended."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def cancel_if_unwanted(self) -> None:
        """When it has not ended, and nobody waits for it."""
        if not self._waiting and not self.ended:
            self.cancel()

    def remember_so_far(self) -> bool:
        """Has what is written so far remembered, up to a sensible boundary, so that it can be shown. Returns whether there is any."""
        cleaned = so_far(restored(self._text, self._lines), self.place.site)
        if cleaned is None:
            return False
        self._ladder.remember(self.place, cleaned.text, cleaned.overwrites, None)
        return True

    def cancel(self) -> None:
        """The engine stops within a step."""
        self.cancelled = True
        if self._task is not None:
            self._task.cancel()
        self._end()

    def _abandon(self) -> None:
        """Nobody waits. Where the text has changed, somebody is about to."""
        if self._session.version(self.place.uri) == self._version:
            self.cancel()
        else:
            asyncio.get_running_loop().call_later(ABANDONED_S, self.cancel_if_unwanted)

    def _tell_of_the_rest(self) -> None:
        """Editors ask once at each place. Where more has come to what is on show there, and nothing was typed since, they may ask again."""
        whole = self._ladder.recall(self.place)
        has_more = self.shown and whole is not None and whole.text != self.shown and whole.text.startswith(self.shown)
        if has_more and self._session.version(self.place.uri) == self._version:
            self._session.server.protocol.notify(MORE, {"uri": self.place.uri, "version": self._version})

    def _tell(self, text: str) -> None:
        self._text = text
        self._news.set()
        self._news = asyncio.Event()

    def _end(self) -> None:
        self.ended = True
        if self._ladder._writing.get(self.place.uri) is self:
            del self._ladder._writing[self.place.uri]
        self._news.set()

    async def _write(self, snapshot: Snapshot, position: Position, invoked: bool, priority: Priority) -> None:
        session = self._session
        try:
            found = await complete(
                snapshot,
                position,
                session.client,
                session.eager_settings(snapshot.language_id),
                invoked=invoked,
                priority=priority,
                on_text=self._tell,
                context=session.context,
                local=session.guess,
            )
            if found is None:
                self._ladder.remember(self.place, "", 0, None)
            else:
                overwrites = found.range.end.character - position.character
                self._ladder.remember(self.place, found.text, overwrites, found.probability, found.is_copy)
                self._tell_of_the_rest()
            if priority == Priority.COMPLETION:
                self._ladder._pace.answered(1000 * (time.monotonic() - self._begun))
        except PhiError as error:
            self.error = error
        except Exception:
            logger.exception("A suggestion failed.")
        finally:
            self._end()
