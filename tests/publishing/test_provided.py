"""What a tokenizer may bring along: regular expressions that a short text cannot keep busy."""

import json

import pytest

from marketplace.publishing.provided import Tokenizer, WrongParameter

GPT_2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)
GPT_4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"


def tokenizer(*patterns: str) -> bytes:
    splits = [{"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"} for pattern in patterns]
    return json.dumps({"model": {}, "pre_tokenizer": {"type": "Sequence", "pretokenizers": splits}}).encode()


@pytest.mark.parametrize("pattern", [GPT_2, LLAMA_3, GPT_4O, BLOOM, " {2,}", r"<\|end\|>|\(+"])
def test_those_of_known_models_are_taken(pattern: str) -> None:
    assert Tokenizer(tokenizer(pattern)).outputs


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+$", "(a|a)*b", r"(\w+)\1", r"(?<x>a)\k<x>", r"\g<0>", "(a+){10}", "(?:a?){30}", "a*a*a*a*b", "a" * 5000],
)
def test_those_that_may_run_for_ever_are_not(pattern: str) -> None:
    with pytest.raises(WrongParameter, match="repeat no group"):
        Tokenizer(tokenizer(GPT_2, pattern))


def test_nor_many() -> None:
    with pytest.raises(WrongParameter, match="repeat no group"):
        Tokenizer(tokenizer(*["a"] * 65))
