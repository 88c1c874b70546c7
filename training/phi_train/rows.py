"""Documents become rows of tokens of one length, ready to train on. Attention never crosses a document, so a row holds several.

Not here: what a document says (`documents.py`).
"""

# mypy: disable-error-code="import-untyped"
from __future__ import annotations

import bisect
import random
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from phi_train import documents
from phi_train.corpus import SourceFile, fraction, read_jsonl
from phi_train.documents import Document
from phi_train.tokenizer import ASSISTANT, END, ENDOFTEXT, USER, load

WEIGHT_UNIT = 0.25
"""Loss weights are stored as whole multiples of this."""
SORTED_AT_ONCE = 4000
"""Documents packed together, longest first; few enough that the rows stay a mixture of files."""
FILLERS_SHARE = 0.2
"""Of the documents, kept back to fill the ends of rows, cut to what is left there: without them 8 % of the positions were padding."""
SMALLEST_FILLER = 24
LONG_ROWS_SHARE = 0.36
"""Of the files, for rows of the whole context, which the decay phase reads; all others go into rows of half of it, which train faster."""
DESCRIBED_SHARE = (0.08, 0.22)
"""Of described code in the short rows and in the long ones: the last thing learnt is what stays."""


def encode(tokenizer: Tokenizer, batch: list[Document]) -> Iterator[tuple[list[int], list[int]]]:
    """Token ids and loss weights (in units) of each document."""
    tokenizer.encode_special_tokens = True  # text that spells a special token must not become one
    user, assistant, end = (tokenizer.token_to_id(token) for token in (USER, ASSISTANT, END))
    newline = tokenizer.encode("\n").ids
    pieces: list[str] = []
    for document in batch:
        pieces.append("\n" + document.question)
        edges = (0, *document.breaks, len(document.answer))
        answer = [document.answer[a:b] for a, b in pairwise(edges)]
        pieces.extend(["\n" + answer[0], *answer[1:]])
    encoded = iter(tokenizer.encode_batch_fast(pieces, add_special_tokens=False))
    for document in batch:
        question = next(encoded).ids
        answers = [token for _ in range(len(document.breaks) + 1) for token in next(encoded).ids]
        ids = [user, *question, end, *newline, assistant, *answers, end]
        asked, said = (round(weight / WEIGHT_UNIT) for weight in (document.question_weight, document.answer_weight))
        yield ids, [0, *([asked] * len(question)), 0, *([0] * len(newline)), 0, *([said] * (len(answers) + 1))]


def pack(tokenizer: Tokenizer, stream: Iterable[Document], length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens (uint16), weights (uint8) and document numbers (uint8), each (rows, length). What does not fit a row is cut off."""
    pad = tokenizer.token_to_id(ENDOFTEXT)
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    rest = iter(stream)
    while batch := list(islice(rest, SORTED_AT_ONCE)):
        every = list(encode(tokenizer, batch))
        fillers = every[:: round(1 / FILLERS_SHARE)]
        encoded = sorted((pair for i, pair in enumerate(every) if i % round(1 / FILLERS_SHARE)), key=lambda pair: -len(pair[0]))
        rows: list[list[tuple[list[int], list[int]]]] = []
        free: list[tuple[int, int]] = []  # (room left, row), ascending
        for ids, weights in encoded:
            ids, weights = ids[:length], weights[:length]
            at = bisect.bisect_left(free, (len(ids), -1))
            room, row = free.pop(at) if at < len(free) else (length, len(rows))
            if row == len(rows):
                rows.append([])
            rows[row].append((ids, weights))
            if room > len(ids):
                bisect.insort(free, (room - len(ids), row))
        for room, row in reversed(free):
            if room >= SMALLEST_FILLER and fillers:
                rows[row].append(tuple(part[:room] for part in fillers.pop()))  # type: ignore[arg-type]
        tokens = np.full((len(rows), length), pad, dtype=np.uint16)
        weighed = np.zeros((len(rows), length), dtype=np.uint8)
        numbers = np.full((len(rows), length), 255, dtype=np.uint8)
        for index, row_documents in enumerate(rows):
            at = 0
            for number, (ids, weights) in enumerate(row_documents):
                tokens[index, at : at + len(ids)] = ids
                weighed[index, at : at + len(ids)] = weights
                numbers[index, at : at + len(ids)] = min(number, 254)
                at += len(ids)
        parts.append((tokens, weighed, numbers))
    if not parts:
        raise ValueError("No documents to pack: the corpus is empty; run the corpus stage and look at corpus.json.")
    return tuple(np.concatenate([part[i] for part in parts]) for i in range(3))  # type: ignore[return-value]


def save(path: Path, arrays: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    np.save(path, np.stack([arrays[0], arrays[1].astype(np.uint16), arrays[2].astype(np.uint16)]))


def run(work: Path, context: int) -> None:
    """Writes rows-{length}.npy for training and rows-held-out.npy, each (3, rows, length): tokens, weights, document numbers."""
    tokenizer = load(work)
    chance = random.Random(1)
    files = read_jsonl(work / "train.jsonl")
    chance.shuffle(files)
    longs = [f for f in files if fraction("rows/" + f.package + "/" + f.path) < LONG_ROWS_SHARE]
    shorts = [f for f in files if fraction("rows/" + f.package + "/" + f.path) >= LONG_ROWS_SHARE]
    for part, length, share in ((shorts, context // 2, DESCRIBED_SHARE[0]), (longs, context, DESCRIBED_SHARE[1])):
        arrays = pack(tokenizer, documents.documents(part, length, share, chance), length)
        save(work / f"rows-{length}.npy", arrays)
        print(f"rows: {arrays[0].size / 1e6:.2f} M tokens in rows of {length}, {(arrays[2] == 255).mean():.1%} padding", flush=True)
    held = sorted(read_jsonl(work / "held_out.jsonl"), key=lambda f: fraction("held/" + f.package + "/" + f.path))
    save(work / "rows-held-out.npy", pack(tokenizer, unbroken(held, context // 2, chance), context // 2))


def unbroken(files: list[SourceFile], context: int, chance: random.Random) -> Iterator[Document]:
    """Completions without forced token breaks: what bits per byte are measured on."""
    for file in files:
        for document in documents.completions(file, context, chance):
            yield Document(document.question, document.answer, 0.0, 1.0)
