"""What becomes of everybody when something fails while the generator runs. The network is one that can be told to."""

import threading
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.inference.generators import backend

engine = backend("engine")

VOCABULARY = [bytes([letter]) for letter in b"abcdefgh"]
POISON = 7
PATIENCE = 30.0


class Network:
    """The token after n is n + 1, up to 5, and then 0. Reading POISON fails; so does the step numbered `breaks_at`."""

    reading = 2

    def __init__(self) -> None:
        self.breaks_at: int | None = None
        self.steps = 0

    def read(self, tokens: list[int], length: int) -> NDArray[np.float32]:
        if POISON in tokens:
            raise RuntimeError("indices out of range")
        return self.after(tokens[-1])

    def step(self, tokens: list[int], lengths: list[int]) -> NDArray[np.float32]:
        self.steps += 1
        if self.steps == self.breaks_at:
            raise RuntimeError("out of memory")
        return np.stack([self.after(token) for token in tokens])

    def move(self, source: int, target: int, length: int) -> None:
        pass

    def after(self, token: int) -> NDArray[np.float32]:
        return np.eye(8, dtype=np.float32)[(token + 1) % 6]


class Greedy:
    def draw(self, logits: NDArray[np.float32]) -> int:
        return int(logits.argmax())


class Broken:
    def draw(self, logits: NDArray[np.float32]) -> int:
        raise ArithmeticError("not a number")


class Listener:
    """`after`: called once the first delta is here, from the engine's own thread."""

    def __init__(self, after: Any = lambda: None) -> None:
        self.text, self.failure, self.after = "", "", after
        self.over = threading.Event()

    def deliver(self, text: str, tokens: int, reason: str) -> None:
        first, self.text = not self.text, self.text + text
        if first:
            self.after()
        if reason:
            self.over.set()

    def fail(self, error: Exception) -> None:
        self.failure = f"{type(error).__name__}: {error}"
        self.over.set()

    def has_left(self) -> bool:
        return False

    @property
    def outcome(self) -> str:
        assert self.over.wait(PATIENCE)
        return self.failure or self.text


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def running(network: Network) -> Any:
    made = engine.Engine(network, VOCABULARY, slots=2, waiting=4, ends=frozenset())
    yield made
    made.stop()


def sequence(prompt: list[int], listener: Listener, *, limit: int = 4, sampler: Any = None) -> Any:
    text = backend("text").Text([])
    return engine.Sequence(prompt, limit=limit, sampler=sampler or Greedy(), text=text, stream=True, listener=listener)


def answer(to: Any, prompt: list[int], **asked: Any) -> str:
    listener = Listener()
    to.submit(sequence(prompt, listener, **asked))
    return listener.outcome


def test_it_answers(running: Any) -> None:
    assert answer(running, [0]) == "bcde"


def test_a_prompt_that_cannot_be_read_fails_alone(running: Any) -> None:
    poisoned = Listener()
    beside = Listener(after=lambda: running.submit(sequence([POISON], poisoned)))
    running.submit(sequence([0], beside, limit=12))

    assert poisoned.outcome == "RuntimeError: indices out of range"
    assert beside.outcome == "bcdefabcdefa"


def test_a_draw_that_fails_fails_alone(running: Any) -> None:
    broken = Listener()
    beside = Listener(after=lambda: running.submit(sequence([0], broken, sampler=Broken())))
    running.submit(sequence([0], beside, limit=12))

    assert broken.outcome == "ArithmeticError: not a number"
    assert beside.outcome == "bcdefabcdefa"


def test_a_step_that_fails_is_the_end_of_those_in_it_and_of_nobody_after(running: Any, network: Network) -> None:
    network.breaks_at = 3
    lost = Listener()
    running.submit(sequence([0], lost, limit=12))

    assert lost.outcome == "RuntimeError: out of memory"
    assert answer(running, [0]) == "bcde"
    assert lost.text == "bcd"


def test_whoever_is_left_when_it_stops_is_told(network: Network) -> None:
    """Two in slots, one that waits."""
    stopped = engine.Engine(network, VOCABULARY, slots=2, waiting=4, ends=frozenset())
    held = threading.Event()
    listeners = [Listener(after=lambda: held.wait(PATIENCE)), Listener(), Listener()]
    for listener in listeners:
        stopped.submit(sequence([0], listener, limit=10**9))
    stopping = threading.Thread(target=stopped.stop)
    stopping.start()
    held.set()
    stopping.join(PATIENCE)

    assert [listener.outcome.partition(":")[0] for listener in listeners] == ["Stopping"] * 3
    assert not stopped.thread.is_alive()


def test_no_more_may_wait_than_it_says(network: Network) -> None:
    speaking, held = threading.Event(), threading.Event()

    def hold() -> None:
        speaking.set()
        held.wait(PATIENCE)

    full = engine.Engine(network, VOCABULARY, slots=1, waiting=2, ends=frozenset())
    full.submit(sequence([0], Listener(after=hold)))
    assert speaking.wait(PATIENCE)
    for _ in range(2):
        full.submit(sequence([0], Listener()))
    with pytest.raises(engine.Full):
        full.submit(sequence([0], Listener()))
    held.set()
    full.stop()
