"""The request ladder, which stops at the first rung that holds: gate → what is remembered (typed through, or asked before) → what is
being written → pause → write.

One completion is written at a time for each document. It belongs to no request: typing on makes the editor give one up and send another,
and what is being written may well be what the next one wants.

Not here: what is remembered and when it fits (suggestions.py), how long the pause is (pace.py), prompt and text (inline_completion.py).
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

import anyio

from phi_backends.errors import BadInput, PhiError
from phi_server.documents import Position, Snapshot
from phi_server.gate import reason_for_silence
from phi_server.inline_completion import complete, site_at
from phi_server.pace import Pace
from phi_server.suggestions import Place, Suggestion, Suggestions

if TYPE_CHECKING:
    from phi_server.session import Session

logger = logging.getLogger(__name__)

ABANDONED_S = 0.3
"""What nobody waits for any more is written on for so long after the text was changed: editors cancel at each key, then ask again."""


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
        while True:
            if (known := self._known.recall(place)) is not None:
                return known if known.text else None
            draft = self._writing.get(place.uri)
            if draft is not None and not draft.may_become(place):
                draft.cancel()
                draft = None
            if draft is None and not paused:
                paused = True
                await anyio.sleep(self._pace.pause_ms(site, settings.debounce_ms) / 1000)
                continue
            if draft is None:
                draft = self._writing[place.uri] = Draft(self, snapshot, position, place, invoked)
            await draft.news()
            if draft.ended and draft.place == place:
                return self._ended(draft)

    def forget(self) -> None:
        """Everything, for another model or other settings."""
        for draft in list(self._writing.values()):
            draft.cancel()
        self._known.clear()

    def version(self, uri: str) -> int | None:
        """Of the document as it is now; None when it is closed."""
        try:
            return self._session.snapshot(uri).version
        except BadInput:
            return None

    def _ended(self, draft: Draft) -> Suggestion | None:
        if draft.error is not None:
            raise draft.error
        known = self._known.recall(draft.place)
        return known if known is not None and known.text else None


class Draft:
    """A completion that is being written, for whoever waits for it."""

    def __init__(self, ladder: Ladder, snapshot: Snapshot, position: Position, place: Place, invoked: bool) -> None:
        self.place = place
        self.ended = False
        self.error: PhiError | None = None
        self._ladder = ladder
        self._version = snapshot.version
        self._text = ""
        """As the model writes it."""
        self._waiting = 0
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._write(snapshot, position, invoked))

    def may_become(self, place: Place) -> bool:
        """Whether what is written so far is what was typed up to `place`, or begins so."""
        typed = place.typed_since(self.place)
        if self.ended or typed is None or place.site.max_lines > self.place.site.max_lines:
            return False
        return typed.startswith(self._text) if len(typed) > len(self._text) else self._text.startswith(typed)

    async def news(self) -> None:
        """Waits until there is more text, or it has ended."""
        self._waiting += 1
        try:
            await self._news.wait()
        except asyncio.CancelledError:
            if self._waiting == 1 and not self.ended:
                self._abandon()
            raise
        finally:
            self._waiting -= 1

    def cancel(self) -> None:
        """The engine stops within a step."""
        self._task.cancel()
        self._end()

    def _abandon(self) -> None:
        """Nobody waits. Where the text has changed, somebody is about to."""
        if self._ladder.version(self.place.uri) == self._version:
            self.cancel()
        else:
            asyncio.get_running_loop().call_later(ABANDONED_S, self._cancel_if_unwanted)

    def _cancel_if_unwanted(self) -> None:
        if not self._waiting and not self.ended:
            self.cancel()

    def _tell(self, text: str) -> None:
        self._text = text
        self._news.set()
        self._news = asyncio.Event()

    def _end(self) -> None:
        self.ended = True
        if self._ladder._writing.get(self.place.uri) is self:
            del self._ladder._writing[self.place.uri]
        self._news.set()

    async def _write(self, snapshot: Snapshot, position: Position, invoked: bool) -> None:
        ladder, place = self._ladder, self.place
        session = ladder._session
        try:
            found = await complete(
                snapshot, position, session.client, session.settings, invoked=invoked, on_text=self._tell, context=session.context
            )
            if found is None:
                ladder._known.remember(Suggestion(place, ""))
            else:
                overwrites = found.range.end.character - found.range.start.character
                text = found.text.replace(place.site.newline, "\n")
                ladder._known.remember(Suggestion(place, text, overwrites, found.probability))
                ladder._pace.answered(found.timings_ms["total"])
        except PhiError as error:
            self.error = error
        except Exception:
            logger.exception("A suggestion failed.")
        finally:
            self._end()
