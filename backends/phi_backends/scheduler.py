"""Which request runs next, and with which KV cache. One forward pass at a time, in the worker's main thread.

A request is a list of token ids that should be in a KV cache, and a rule for adding to it. A step appends what is missing, a chunk at
a time, and then chooses the next token. So nothing special is needed for a request that was overtaken (its cache is still there),
whose cache was given to another (it is filled again), or that shares its beginning with an earlier one (less is missing).

Not here: pipes and processes (worker.py), the runtimes (engines/).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from phi_backends.drafts import Drafts
from phi_backends.engine import (
    CheckingSequence,
    Engine,
    ForkingSequence,
    Interrupted,
    InterruptibleEngine,
    Token,
    TokenSequence,
    WaitingSequence,
)
from phi_backends.errors import EngineError, EngineFull, PhiError
from phi_backends.memory import peak_bytes
from phi_backends.messages import Cancel, Done, Failed, FromWorker, Generate, Priority, Text, Timings, ToWorker
from phi_backends.stream import AnswerStream
from phi_prompts.prompt import Prompt, PromptTooLong, fit

IDLE_CACHES = 16
"""KV caches kept after their request ended: open files, states of them that an undo returns to, an explanation. Those that are needed
least go earlier when the engine's memory is full."""
CHUNK_TOKENS = (64, 512)
"""Of prefill, the least and the most at a time. On a 3.8 B model and two cores, chunks of 64 tokens take 0.67 s and cost 11 % more
than one pass over the whole prompt; chunks of 32 cost 36 %."""
CHUNK_MS = 300.0
"""How long a chunk should take, since a cancel or a more urgent request waits for it; 64 tokens may take longer."""
DRAFTED_TOKENS = {Priority.COMPLETION: 2, Priority.ANSWER: 7, Priority.IDLE: 2}
"""At most, by priority: a completion is cancelled often, and waits for the pass where that cannot be interrupted. With OpenVINO 7 would
save 1 or 2 % more of a line; with ONNX Runtime, where each token costs a third of a step, 10 % less. More than 7 save nothing anywhere."""
IDLE_CHUNK_TOKENS = 32
"""Of prefill ahead of time: what somebody waits for comes in between, and waits for one of these (0.43 s on that machine)."""
SAME_DOCUMENT = 0.25
"""Where sequences cannot share memory, a cache is taken over by a prompt of which it holds at least this part. Below that it belongs to
another document, and a new one is opened beside it."""
WORTH_KEEPING_TOKENS = 64
"""Where sequences share memory, a cache that would lose more of its prompt than this is left as it is, to be returned to, and the new
prompt goes on from a fork of it."""
FIRST_LINE_TOKENS = 4
"""Of the deadline, so many decode steps are left for the answer; what is behind them comes while one reads."""
LEAST_PROMPT_TOKENS = 256
"""A prompt is not made shorter than this for a deadline: with less around it the model guesses."""
SPEED_TOKENS, SPEED_STEPS = 32, 2
"""Run after loading, to learn how fast the engine is."""
NEWEST_SPEED = 0.2
"""Weight of the newest measurement in the running mean."""
CANCEL_S = 0.01
"""Behind a line end the server may well have enough of a completion. Where a forward pass cannot be interrupted, the cancel is waited for
so long: the next step would be in vain, and what comes behind the cancel would wait for it. It takes 2 to 4 ms."""
CANCEL_SHARE = 0.1
"""Of a step, which that may cost at most; a model of quick steps goes on at once."""
LOOK_UP_S = 0.05
"""While an engine waits for another machine, messages are looked at so often."""


@dataclass
class _Job:
    message: Generate
    arrived: float
    ids: list[int]
    """The prompt, then the answer."""
    heal: str
    max_tokens: int
    stream: AnswerStream
    prompt_tokens: int
    reused_tokens: int = 0
    started: float | None = None
    first_token: float | None = None
    sequence: TokenSequence | None = None
    made_way: bool = False
    """Its last forward pass was interrupted."""
    drafts: Drafts = field(default_factory=Drafts)
    ran_tokens: int = 0
    ran_ms: float = 0.0
    """Since the last token was chosen: engines run the model in `append` or in `next`, so only both together tell how fast it is."""
    probability: float | None = 1.0
    """Of the text that was not sent yet."""


@dataclass
class _Cache:
    sequence: TokenSequence
    ids: list[int]
    prompt_tokens: int
    """The rest was an answer, which may have been no use."""


class Speed:
    """How long the engine takes for a token, as running means."""

    def __init__(self) -> None:
        self.prefill_token_ms = self.decode_token_ms = 0.0

    def measured(self, tokens: int, ms: float) -> None:
        """One forward pass over so many tokens took so long."""
        if tokens == 1:
            self.decode_token_ms = _mean(self.decode_token_ms, ms)
        elif tokens >= SPEED_TOKENS:
            self.prefill_token_ms = _mean(self.prefill_token_ms, ms / tokens)


class Scheduler:
    def __init__(self, engine: Engine, emit: Callable[[FromWorker], None]) -> None:
        self._engine = engine
        self._interruptible = engine if isinstance(engine, InterruptibleEngine) and engine.can_interrupt else None
        self._emit = emit
        self._jobs: list[_Job] = []
        self._idle: list[_Cache] = []
        """Least recently used first."""
        self._chunk = CHUNK_TOKENS[0]
        self._may_be_enough = False
        self._running: _Job | None = None
        """Whose forward pass is under way."""
        self.speed = Speed()

    @property
    def busy(self) -> bool:
        return bool(self._jobs)

    @property
    def pause_s(self) -> float:
        """How long to wait for a message before the next step."""
        can_wait = self._may_be_enough and self._interruptible is None
        is_worth_it = can_wait and CANCEL_SHARE * self.speed.decode_token_ms >= 1000 * CANCEL_S
        return CANCEL_S if is_worth_it else 0.0

    def measure(self) -> None:
        """Learns how fast the engine is."""
        sequence = self._engine.open()
        for tokens in (SPEED_TOKENS, *[1] * SPEED_STEPS):
            started = time.perf_counter()
            sequence.append([self._engine.tokenizer.encode("x")[0]] * tokens)
            sequence.next()
            self.speed.measured(tokens, 1000 * (time.perf_counter() - started))
        sequence.close()

    def submit(self, message: Generate, arrived: float | None = None) -> None:
        """Takes a request in, which arrived at that time by `time.perf_counter`. One that cannot run is answered at once."""
        try:
            self._jobs.append(self._job(message, arrived or time.perf_counter()))
        except (PhiError, PromptTooLong) as error:
            self._emit(Failed(message.request, str(error)))

    def interrupt_for(self, message: ToWorker) -> None:
        """Called from another thread when a message has come: stops the forward pass under way if that is now in vain, or in the way of
        something more urgent. The prompt of a completion is run on, since the next key needs the same, and that of an answer makes way once
        for each chunk, or somebody who types would keep it from ever being run."""
        job = self._running
        if job is None or self._interruptible is None:
            return
        is_vain = isinstance(message, Cancel) and message.request == job.message.request
        is_in_the_way = isinstance(message, Generate) and message.priority < job.message.priority
        runs_on = job.first_token is None and (job.message.priority != Priority.ANSWER or job.made_way)
        if (is_vain or is_in_the_way) and not runs_on:
            self._interruptible.interrupt()

    def cancel(self, message: Cancel) -> None:
        """Ends the request; one that has ended already is none of our business: the two messages crossed on the pipe."""
        for job in self._jobs:
            if job.message.request == message.request:
                self._end(job, "cancelled")
                return

    def step(self) -> None:
        """One forward pass, at most, for the request whose turn it is: the most urgent, and of those the oldest."""
        job = min(self._jobs, key=lambda job: (job.message.priority, job.arrived))
        self._may_be_enough = False
        self._running = job
        try:
            self._advance(job)
            job.made_way = False
        except Interrupted:
            job.made_way = True  # and goes on when it is its turn again
        except PhiError as error:
            self._jobs.remove(job)
            if job.sequence is not None:
                job.sequence.close()
            self._emit(Failed(job.message.request, str(error)))
        finally:
            self._running = None

    def _job(self, message: Generate, arrived: float) -> _Job:
        tokenizer, context = self._engine.tokenizer, self._engine.info.context_tokens
        room = context - min(message.max_tokens, context // 2)
        can_heal = message.heal and self._engine.can_choose and tokenizer.continuations(message.heal)
        prompt = message.prompt if can_heal else (*message.prompt, message.heal)
        most = min(message.max_prompt_tokens or room, room)
        ids = fit(prompt, tokenizer.encode, tokenizer.control_id, most, tokenizer.space_eaters)
        if not ids:
            raise EngineError("The prompt is empty: there is nothing to go on from.")
        if message.deadline_ms is not None:
            ids = self._in_time(prompt, ids, message.deadline_ms)
        heal = message.heal if can_heal else ""
        return _Job(
            message,
            arrived,
            ids,
            heal=heal,
            max_tokens=0 if message.prefill_only else min(message.max_tokens, context - len(ids)),
            stream=AnswerStream(tokenizer.decode, before=ids, stop=message.stop, skip=heal),
            prompt_tokens=len(ids),
        )

    def _in_time(self, prompt: Prompt, ids: list[int], deadline_ms: float) -> list[int]:
        """`ids`, the whole prompt; or, where that is in no cache and would miss the deadline, one shortened to meet it, or nearly."""
        if not self.speed.prefill_token_ms:
            return ids
        left_ms = deadline_ms - FIRST_LINE_TOKENS * self.speed.decode_token_ms
        affordable = max(LEAST_PROMPT_TOKENS, int(left_ms / self.speed.prefill_token_ms))
        missing = len(ids) - self._cached(ids)
        if missing <= affordable:
            return ids
        tokenizer = self._engine.tokenizer
        most = 1 << affordable.bit_length() - 1  # a power of two: a budget that moves would move the prompt's beginning
        try:
            shorter = fit(prompt, tokenizer.encode, tokenizer.control_id, most, tokenizer.space_eaters)
        except PromptTooLong:
            return ids
        return shorter if len(shorter) - self._cached(shorter) < missing else ids

    def _cached(self, ids: list[int]) -> int:
        """How many tokens at the beginning are in some KV cache."""
        idle = max((_common(cache.ids, ids) for cache in self._idle), default=0)
        running = ((job.sequence, job.ids) for job in self._jobs if job.sequence is not None)
        return max([idle, *(min(_common(others, ids), len(sequence)) for sequence, others in running)])

    def _advance(self, job: _Job) -> None:
        if job.sequence is None:
            job.sequence = self._take(job)
        missing = job.ids[len(job.sequence) :]
        if len(missing) == 1 and (drafted := self._drafted(job)) and isinstance(job.sequence, CheckingSequence):
            self._check(job, job.sequence, drafted)
            return
        if missing:
            most = min(self._chunk, IDLE_CHUNK_TOKENS) if job.message.priority == Priority.IDLE else self._chunk
            self._append(job, job.sequence, missing[:most])
        if len(job.sequence) == len(job.ids):
            self._choose(job, job.sequence)

    def _append(self, job: _Job, sequence: TokenSequence, ids: Sequence[int]) -> None:
        """One forward pass; where the KV cache has no room left for it, the least needed other cache goes first."""
        while True:
            started = time.perf_counter()
            try:
                sequence.append(ids)
                break
            except EngineFull:
                self._make_room(sequence)
        ms = 1000 * (time.perf_counter() - started)
        job.ran_tokens += len(ids)
        job.ran_ms += ms
        if len(ids) == self._chunk:
            least, most = CHUNK_TOKENS
            wanted = len(ids) * CHUNK_MS / ms
            self._chunk = most if wanted >= most else max(least, 1 << int(wanted).bit_length() - 1)

    def _drafted(self, job: _Job) -> list[int]:
        """What may come next in an answer, to be checked with its last token in one pass."""
        is_answer = len(job.ids) > job.prompt_tokens
        if not is_answer or job.message.temperature > 0 or len(job.stream.text) < len(job.heal):
            return []
        room = min(job.max_tokens - (len(job.ids) - job.prompt_tokens) - 1, self._engine.info.context_tokens - len(job.ids))
        return job.drafts.next(job.ids, min(room, DRAFTED_TOKENS[job.message.priority]))

    def _check(self, job: _Job, sequence: CheckingSequence, drafted: list[int]) -> None:
        """The answer goes on as far as the draft is what the model says, and one token further."""
        try:
            tokens = sequence.check([job.ids[-1], *drafted])
        except EngineFull:
            self._make_room(sequence)
            return
        right = next((at for at, id in enumerate(drafted) if tokens[at].id != id), len(drafted))
        sequence.rewind(len(sequence) - len(drafted) + right)
        for token in tokens[: right + 1]:
            if not self._goes_on(job, token, is_forced=False):
                sequence.rewind(min(len(sequence), len(job.ids)))
                return

    def _choose(self, job: _Job, sequence: TokenSequence) -> None:
        """The next token of the answer, or the end of it."""
        if job.max_tokens == 0:
            self._end(job, "length")
            return
        rest = job.heal[len(job.stream.text) :]
        allowed = self._engine.tokenizer.continuations(rest) if rest else None
        started, temperature = time.perf_counter(), job.message.temperature
        token = None
        if not isinstance(sequence, WaitingSequence) or sequence.is_ready(temperature, LOOK_UP_S):
            token = sequence.next(temperature, allowed or None)
        job.ran_ms += 1000 * (time.perf_counter() - started)
        if token is not None:
            self.speed.measured(job.ran_tokens, job.ran_ms)
            job.ran_tokens, job.ran_ms = 0, 0.0
            self._goes_on(job, token, is_forced=bool(rest))

    def _goes_on(self, job: _Job, token: Token, is_forced: bool) -> bool:
        """Takes the answer's next token. Returns whether that was not its end."""
        job.first_token = job.first_token or time.perf_counter()
        if not is_forced:  # what was forced says nothing about how sure the model is
            job.probability = None if job.probability is None or token.probability is None else job.probability * token.probability
        if token.id in self._engine.tokenizer.stop_ids:
            self._end(job, "stop")
            return False
        job.ids.append(token.id)
        self._send(job, job.stream.feed(token.id))
        if job.stream.stopped:
            self._end(job, "stop")
        elif len(job.ids) - job.prompt_tokens >= job.max_tokens:
            self._end(job, "length")
        return job in self._jobs

    def _send(self, job: _Job, text: str, is_end: bool = False) -> None:
        if text or (is_end and job.message.stop and job.probability != 1.0):  # how sure the end is counts, though it has no text
            self._emit(Text(job.message.request, text, job.probability))
            job.probability = 1.0
            self._may_be_enough |= job.message.priority == Priority.COMPLETION and "\n" in text

    def _end(self, job: _Job, reason: Literal["stop", "length", "cancelled"]) -> None:
        if reason != "cancelled":
            self._send(job, job.stream.finish(), is_end=True)
        self._jobs.remove(job)
        if job.sequence is not None:
            self._keep(job.sequence, job.ids[: len(job.sequence)], job.prompt_tokens)
        now = time.perf_counter()
        timings = Timings(
            queued_ms=1000 * ((job.started or now) - job.arrived),
            first_token_ms=1000 * (job.first_token - job.arrived) if job.first_token else 0.0,
            total_ms=1000 * (now - job.arrived),
            prompt_tokens=job.prompt_tokens,
            reused_tokens=job.reused_tokens,
            answer_tokens=len(job.ids) - job.prompt_tokens,
            prefill_token_ms=self.speed.prefill_token_ms,
            decode_token_ms=self.speed.decode_token_ms,
            peak_memory_bytes=peak_bytes(),
        )
        self._emit(Done(job.message.request, reason, timings))

    def _keep(self, sequence: TokenSequence, ids: list[int], prompt_tokens: int) -> None:
        """A cache whose request has ended, and which is now the most recently used. Those that it continues are no use beside it."""
        for cache in [cache for cache in self._idle if len(cache.ids) <= len(ids) and _common(cache.ids, ids) == len(cache.ids)]:
            self._idle.remove(cache)
            cache.sequence.close()
        self._idle.append(_Cache(sequence, ids, prompt_tokens))
        while len(self._idle) > IDLE_CACHES:
            self._idle.pop(0).sequence.close()

    def _take(self, job: _Job) -> TokenSequence:
        """The cache that holds most of what the request needs, up to where they part, or a new one."""
        job.started = job.started or time.perf_counter()
        usable = len(job.ids) - 1  # the last token is always run, for its logits
        best = max(self._idle, key=lambda cache: _common(cache.ids, job.ids), default=None)
        shared = 0 if best is None else min(_common(best.ids, job.ids), usable)
        if (running := self._from_running(job, usable, shared)) is not None:
            return running
        if best is not None and shared:
            if isinstance(best.sequence, ForkingSequence) and best.prompt_tokens - shared > WORTH_KEEPING_TOKENS:
                job.reused_tokens = shared
                return best.sequence.fork(shared)
            if isinstance(best.sequence, ForkingSequence) or shared >= SAME_DOCUMENT * usable:
                self._idle.remove(best)
                best.sequence.rewind(shared)
                job.reused_tokens = shared
                return best.sequence
        while True:
            try:
                return self._engine.open()
            except EngineFull:
                self._make_room(None)

    def _from_running(self, job: _Job, usable: int, shared: int) -> TokenSequence | None:
        """What a request that is not done has in common with this one, where that is more than `shared` tokens: work ahead of time is of
        use although it was overtaken. Where sequences cannot share memory, a more urgent request takes the cache of a less urgent one."""
        others = [other for other in self._jobs if other is not job and other.sequence is not None]
        other = max(others, key=lambda other: _in_common(other, job), default=None)
        if other is None or other.sequence is None or (common := min(_in_common(other, job), usable)) <= shared:
            return None
        job.reused_tokens = common
        if isinstance(other.sequence, ForkingSequence):
            return other.sequence.fork(common)
        if other.message.priority <= job.message.priority or common < SAME_DOCUMENT * usable:
            return None
        sequence, other.sequence = other.sequence, None
        sequence.rewind(common)
        return sequence

    def _make_room(self, asking: TokenSequence | None) -> None:
        """Closes the cache that is missed least. Raises EngineFull when there is none but the asking one."""
        if self._idle:
            self._idle.pop(0).sequence.close()
            return
        others = [job for job in self._jobs if job.sequence is not None and job.sequence is not asking]
        if not others:
            raise EngineFull("The KV cache is too small for this prompt. Raise the engine option kv_tokens, or choose a smaller model.")
        loser = max(others, key=lambda job: (job.message.priority, job.arrived))
        assert loser.sequence is not None
        loser.sequence.close()
        loser.sequence = None  # it goes on later, from its ids


def _in_common(other: _Job, job: _Job) -> int:
    """Tokens at the beginning of `job` that are in the cache of `other`."""
    return 0 if other.sequence is None else min(_common(other.ids, job.ids), len(other.sequence))


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """The length of the common beginning. In slices first: token by token, a key would cost a millisecond for each long cache."""
    at, end = 0, min(len(a), len(b))
    while at + 64 <= end and a[at : at + 64] == b[at : at + 64]:
        at += 64
    return next((place for place in range(at, end) if a[place] != b[place]), end)


def _mean(known: float, newest: float) -> float:
    return newest if not known else (1 - NEWEST_SPEED) * known + NEWEST_SPEED * newest
