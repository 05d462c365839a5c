"""Continuous batching (Yu et al., Orca, 2022): one thread steps all sequences together, and others join between steps.

A prompt is read in pieces, one between two steps, so that those who are being answered hardly notice it.
"""

import threading
from collections import deque

# To read so many takes about as long as two steps of a full house.
PIECE_TOKENS = 32
# Whether a caller has left is a question to another process: not at every step.
STEPS_BETWEEN_QUESTIONS = 4


class Full(Exception):
    """As many wait as may."""


class Stopping(Exception):
    """The engine ends, and with it whatever was not over."""


class Sequence:
    """One answer on its way: the prompt, then what was drawn.

    `listener` is told of it, from the engine's thread: `deliver(text, tokens, reason)` (reason "" until the last:
    "stop" or "length"; tokens since the last time), `fail(error)`, and asked `has_left()`.
    """

    def __init__(self, prompt, *, limit, sampler, text, stream, listener):
        self.prompt = prompt
        self.limit = limit
        self.sampler = sampler
        self.text = text
        self.stream = stream
        self.listener = listener
        self.length = 0  # tokens in the cache
        self.token = None  # the latest, not yet in the cache
        self.drawn = 0
        self.untold = len(prompt)
        self.unsent = ""


class Engine:
    """`waiting`: how many sequences may wait for a slot. Tokens in `ends` end a text."""

    def __init__(self, network, vocabulary, *, slots, waiting, ends):
        self.network = network
        self.vocabulary = vocabulary
        self.slots = slots
        self.max_waiting = waiting
        self.ends = ends
        self.waiting = deque()
        self.reading = None
        self.running = []  # in the order of their slots
        self.steps = 0
        self.changed = threading.Condition()
        self.stopping = False
        self.thread = threading.Thread(target=self.work, name="generator", daemon=True)
        self.thread.start()

    def submit(self, sequence):
        """Raises Full."""
        with self.changed:
            if len(self.waiting) >= self.max_waiting:
                raise Full
            self.waiting.append(sequence)
            self.changed.notify()

    def stop(self):
        """Fails whoever is still here, and ends the thread."""
        with self.changed:
            self.stopping = True
            self.changed.notify()
        self.thread.join()

    def work(self):
        while self.wait_for_work():
            try:
                self.drop_who_left()
                self.read_piece()
                self.step()
            except Exception as error:  # of the network itself: what it was to answer is lost, what comes may work
                self.fail_all(error)
        self.fail_all(Stopping())

    def wait_for_work(self):
        with self.changed:
            while not (self.stopping or self.waiting or self.reading or self.running):
                self.changed.wait()
            if self.reading is None and self.waiting and len(self.running) < self.slots:
                self.reading = self.waiting.popleft()
            return not self.stopping

    def drop_who_left(self):
        # Of those who wait, each is asked when its turn comes.
        if self.reading and self.reading.listener.has_left():
            self.reading = None
        self.steps += 1
        if self.steps % STEPS_BETWEEN_QUESTIONS == 0:
            for sequence in [each for each in self.running if each.listener.has_left()]:
                self.leave(sequence)

    def read_piece(self):
        sequence = self.reading
        if sequence is None:
            return
        piece = sequence.prompt[sequence.length : sequence.length + PIECE_TOKENS]
        try:
            logits = self.network.read(piece, sequence.length)
        except Exception as error:  # those who are being answered have no part in it
            self.reading = None
            sequence.listener.fail(error)
            return
        sequence.length += len(piece)
        if sequence.length == len(sequence.prompt):
            self.reading = None
            if self.go_on(sequence, logits):
                self.network.move(self.network.reading, len(self.running), sequence.length)
                self.running.append(sequence)

    def step(self):
        if not self.running:
            return
        sequences = list(self.running)
        logits = self.network.step([each.token for each in sequences], [each.length for each in sequences])
        for sequence in sequences:
            sequence.length += 1
        for sequence, scores in zip(sequences, logits, strict=True):
            if not self.go_on(sequence, scores):
                self.leave(sequence)

    def leave(self, sequence):
        """The slots stay without gaps: the last sequence takes the place of the one that leaves."""
        last = self.running.pop()
        if last is not sequence:
            slot = self.running.index(sequence)
            self.network.move(len(self.running), slot, last.length)
            self.running[slot] = last

    def go_on(self, sequence, logits):
        """Draws a token and tells of it. False when it was the last."""
        try:
            token = sequence.sampler.draw(logits)
            sequence.token, sequence.drawn, sequence.untold = token, sequence.drawn + 1, sequence.untold + 1
            ended = token in self.ends
            over = ended or sequence.drawn == sequence.limit
            sequence.unsent += sequence.text.add(b"" if ended else self.vocabulary[token], end=over)
            reason = "stop" if ended or sequence.text.stopped else "length" if over else ""
            if reason or (sequence.stream and sequence.unsent):
                text, tokens = sequence.unsent, sequence.untold
                sequence.unsent, sequence.untold = "", 0
                sequence.listener.deliver(text, tokens, reason)
            return not reason
        except Exception as error:  # one sequence's failure, whatever it is, must not become another's
            sequence.listener.fail(error)
            return False

    def fail_all(self, error):
        with self.changed:
            lost = [*self.running, *([self.reading] if self.reading else [])]
            if self.stopping:
                lost += self.waiting
                self.waiting.clear()
            self.running, self.reading = [], None
        for sequence in lost:
            sequence.listener.fail(error)
