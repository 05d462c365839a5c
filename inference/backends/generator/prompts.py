"""What a request asks for: its parameters, and its prompt as text. What is wrong with one raises Refused."""

import json
from dataclasses import dataclass

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_STOPS = 16
MAX_STOP_CHARACTERS = 256
MAX_MESSAGES = 2048
ROLES = ("system", "user", "assistant")


class Refused(ValueError):
    """A request that cannot be answered as it is; the message goes to the caller."""


@dataclass(frozen=True)
class Options:
    max_tokens: int | None  # of the answer
    max_total_tokens: int | None  # of prompt and answer
    temperature: float
    top_p: float
    seed: int | None
    stop: tuple[str, ...]
    stream: bool
    chat: bool


def read_options(parameters, *, temperature, top_p):
    """From a request's parameters. Numbers may come as strings: not all protocols carry fractions."""
    return Options(
        max_tokens=_integer(parameters, "max_tokens", 1),
        max_total_tokens=_integer(parameters, "max_total_tokens", 1),
        temperature=_fraction(parameters, "temperature", temperature, 0, 2),
        top_p=_fraction(parameters, "top_p", top_p, 0, 1),
        seed=_integer(parameters, "seed", None),
        stop=_stops(parameters.get("stop", "[]")),
        stream=_switch(parameters, "stream", True),
        chat=_switch(parameters, "apply_chat_template", False),
    )


def _integer(parameters, name, least):
    value = parameters.get(name)
    if value is None:
        return None
    try:
        number = int(value) if isinstance(value, str) else value
    except ValueError:
        number = None
    if type(number) is not int or (least is not None and number < least):
        raise Refused(f"{name} is a whole number" + ("" if least is None else f" of at least {least}"))
    return number


def _fraction(parameters, name, default, least, most):
    value = parameters.get(name, default)
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not least <= number <= most:
        raise Refused(f"{name} is a number from {least} to {most}")
    return number


def _switch(parameters, name, default):
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise Refused(f"{name} is true or false")
    return value


def _stops(text):
    stops = _parsed(text, "stop")
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise Refused("stop is a list of strings, as JSON")
    if len(stops) > MAX_STOPS or not all(0 < len(stop) <= MAX_STOP_CHARACTERS for stop in stops):
        raise Refused(f"stop has at most {MAX_STOPS} strings of 1 to {MAX_STOP_CHARACTERS} characters")
    return tuple(stops)


def _parsed(text, name):
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise Refused(f"{name} is not JSON") from error


class ChatTemplate:
    """A model's own form of a conversation, in Jinja as Hugging Face's chat templates. Its output is bounded.

    Of the `special` tokens, those that the template itself writes may not be in a message: who wrote a part of the
    conversation must not be able to write the others'.
    """

    def __init__(self, source, *, max_characters, special, **tokens):
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = _raise
        self.template = environment.from_string(source)
        self.max_characters = max_characters
        self.tokens = tokens
        self.controls = [token for token in special if token in source or token in tokens.values()]

    def render(self, text):
        """The prompt for messages, a JSON list of {"role", "content"}."""
        written, size = [], 0
        try:
            for part in self.template.generate(
                messages=self.checked(_messages(text)), add_generation_prompt=True, **self.tokens
            ):
                written.append(part)
                size += len(part)
                if size > self.max_characters:
                    raise Refused("the messages are longer than the model's context")
        except (TemplateError, ArithmeticError, LookupError, TypeError, RecursionError) as error:
            raise Refused(f"the model's chat template does not take these messages: {error}") from error
        return "".join(written)

    def checked(self, messages):
        for number, message in enumerate(messages):
            for token in self.controls:
                if token in message["content"]:
                    raise Refused(f"message {number} contains {token}, by which this model tells messages apart")
        return messages


def _raise(message):
    raise TemplateError(message)


def _messages(text):
    messages = _parsed(text, "text_input")
    if not isinstance(messages, list) or not 0 < len(messages) <= MAX_MESSAGES:
        raise Refused(f"text_input is a list of 1 to {MAX_MESSAGES} messages, as JSON")
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or set(message) != {"role", "content"}:
            raise Refused(f"message {number} is not an object of role and content")
        if message["role"] not in ROLES:
            raise Refused(f"the role of message {number} is not one of {', '.join(ROLES)}")
        if not isinstance(message["content"], str):
            raise Refused(f"the content of message {number} is not a string")
    return messages
