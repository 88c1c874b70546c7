"""From token ids to text that can be shown: whole characters only, nothing past a stop text, without the healed beginning."""

from collections.abc import Callable, Sequence


class AnswerStream:
    """The text of an answer as its tokens come.

    Tokenizers decode a token differently in different company (SentencePiece drops a leading space at the start of a text), so each
    piece is the difference between decoding a few tokens with and without the new one.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], before: Sequence[int], stop: Sequence[str] = (), skip: str = "") -> None:
        """`before`: ids in front of the answer, of which the last few serve as context. `skip`: text at the start that is not shown."""
        self._decode = decode
        self._ids = list(before[-4:])
        self._start = 0
        """Decoding starts here: far enough back for the context, not so far that long answers cost more for each token."""
        self._read = len(self._ids)
        """Tokens before this one have been turned into text."""
        self._stop = stop
        self._skip = len(skip)
        self.text = ""
        """All text so far, the skipped beginning and a stop text included."""
        self._shown = 0
        self.stopped = False
        """A stop text was met."""

    def feed(self, token: int) -> str:
        """What can be shown now that `token` has come; often empty."""
        self._ids.append(token)
        known = self._decode(self._ids[self._start : self._read])
        all_text = self._decode(self._ids[self._start :])
        if all_text.endswith("\N{REPLACEMENT CHARACTER}") and len(self._ids) - self._read < 4:
            return ""  # the middle of a character, which has at most four bytes
        self.text += all_text[len(known) :]
        self._start, self._read = self._read, len(self._ids)
        return self._showable(final=False)

    def finish(self) -> str:
        """What was held back in case it began a stop text."""
        known = self._decode(self._ids[self._start : self._read])
        self.text += self._decode(self._ids[self._start :])[len(known) :].rstrip("\N{REPLACEMENT CHARACTER}")
        self._read = len(self._ids)
        return self._showable(final=True)

    def _showable(self, final: bool) -> str:
        end = len(self.text)
        stops = [at for text in self._stop if (at := self.text.find(text, self._skip)) >= 0]
        if stops:
            self.stopped, end = True, min(stops)
        elif not final:
            end -= max((_overlap(self.text, text) for text in self._stop), default=0)
        start = max(self._shown, self._skip)
        if end <= start:
            return ""
        self._shown = end
        return self.text[start:end]


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that begins `stop`."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
