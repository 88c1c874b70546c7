"""Work ahead of time, at idle priority: the engine does it when nothing else is asked of it, and it is dropped when the document goes
another way.

- A suggestion is on show: the next one is written, as if that had been accepted, and behind a line that is complete the next line.
- A file was opened, the cursor went to another place, or stands where nothing is suggested: the prompt is run into the KV cache.

On battery none of it is done. Not here: what is remembered of it (ladder.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from phi_backends.errors import PhiError
from phi_backends.messages import Priority
from phi_server.documents import Position, Range, Snapshot, indent_unit, indentation
from phi_server.gate import reason_for_silence
from phi_server.inline_completion import prefill, site_at
from phi_server.postprocess import opens_block
from phi_server.suggestions import Place, Suggestion

if TYPE_CHECKING:
    from phi_server.session import Session

logger = logging.getLogger(__name__)

PAUSE_S = 0.4
"""Nothing is begun ahead of time before things have been quiet for so long: most suggestions live shorter than that."""


class Ahead:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._task: asyncio.Task[None] | None = None
        self._opened: Snapshot | None = None
        """The document that was opened last, without its lines."""
        self._now: object = None
        """What the task is about."""

    def shown(self, snapshot: Snapshot, position: Position, suggestion: Suggestion) -> None:
        """A suggestion is on show at `position`."""
        place = Range(position, Position(position.line, position.character + suggestion.overwrites))
        accepted = snapshot.edited(place, suggestion.text.replace("\n", snapshot.newline))
        lines = suggestion.text.split("\n")
        end = Position(position.line + len(lines) - 1, len(lines[-1]) + (position.character if len(lines) == 1 else 0))
        self._instead((snapshot.uri, accepted.lines, end), lambda: self._write_next(accepted, end))

    def opened(self, snapshot: Snapshot) -> None:
        """Nobody knows yet where the cursor will be: what every prompt of the document begins with is run."""
        self._opened = Snapshot(snapshot.uri, None, snapshot.language_id, ())
        self.engine_ready()

    def engine_ready(self) -> None:
        """Editors open files while the model still loads."""
        if (opened := self._opened) is not None:
            self._instead(opened.uri, lambda: self._prefill(opened, Position(0, 0)))

    def moved(self, snapshot: Snapshot, position: Position) -> None:
        """The cursor is at `position`, where nothing is suggested yet."""
        self._instead((snapshot.uri, snapshot.lines, position), lambda: self._prefill(snapshot, position))

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._task = self._now = None

    def _instead(self, what: object, work: Callable[[], Awaitable[None]]) -> None:
        """Begins `work` in place of what is done now, unless that is the same."""
        if what == self._now or not self._session.works_ahead():
            return
        self.stop()
        self._now, self._task = what, asyncio.create_task(self._quietly(work))

    async def _quietly(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await asyncio.sleep(PAUSE_S)
            await work()
        except PhiError as error:
            logger.info("Nothing is done ahead of time: %s", error)
        except Exception:
            logger.exception("Work ahead of time failed.")

    async def _prefill(self, snapshot: Snapshot, position: Position) -> None:
        session = self._session
        await prefill(snapshot, position, session.client, session.settings, session.context)

    async def _write_next(self, accepted: Snapshot, end: Position) -> None:
        if await self._written(accepted, end):
            return
        line = accepted.line(end.line)
        if end.character < len(line):
            return
        indent = indentation(line) + (indent_unit(accepted.lines) if opens_block(line, accepted.language_id) else "")
        await self._written(accepted.edited(Range(end, end), accepted.newline + indent), Position(end.line + 1, len(indent)))

    async def _written(self, snapshot: Snapshot, position: Position) -> bool:
        """Has what comes at `position` written. Returns whether there is something to show."""
        ladder = self._session.ladder
        site = site_at(snapshot, position, self._session.settings)
        if reason_for_silence(site, invoked=False) is not None:
            return False
        place = Place(snapshot.uri, position.line, site)
        await ladder.written(snapshot.uri)  # what is shown at the deadline is the beginning of more
        if ladder.recall(place) is None:
            draft = ladder.write(snapshot, position, priority=Priority.IDLE)
            try:
                await draft.end()
            finally:
                draft.cancel_if_unwanted()
        known = ladder.recall(place)
        return known is not None and bool(known.text)
