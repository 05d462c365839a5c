"""openlab/sentiment: logistic regression on word n-grams and a valence lexicon, from text to scores in one ONNX graph.

The lexicon's share is VADER's normalised sum (Hutto and Gilbert, 2014): s / sqrt(s^2 + 15), s the summed valence.
"""

import hashlib
import html
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper
from scipy.sparse import hstack
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score

from demo.build import graphs, sources

# One syntax for two engines: Python's re while training, RE2 (leftmost-longest) in ONNX Runtime.
WORD = r"[a-z0-9]+(?:['-][a-z0-9]+)*|[:;=][-o']?[()dp/]|[!?]"
NEUTRAL = 0.5  # mean ratings nearer to 0 than this are neither positive nor negative
CLEAR = 1.0


def build(destination: Path) -> dict[str, float]:
    rows, lexicon = sources.rated_texts()
    rated = [(document, rating, html.unescape(text)) for document, rating, text in rows if abs(rating) >= NEUTRAL]
    train = [row for row in rated if not _held_out(row[0])]
    test = [row for row in rated if _held_out(row[0])]

    graph = _trained([text for _, _, text in train], np.array([rating > 0 for _, rating, _ in train]), lexicon)
    graphs.save(graph, destination / "v1.onnx")

    session = onnxruntime.InferenceSession(destination / "v1.onnx")
    (scores,) = session.run(None, {"text": np.array([text for _, _, text in test], object)})
    ratings = np.array([rating for _, rating, _ in test])
    answer, truth, clear = scores[:, 1] > 0.5, ratings > 0, np.abs(ratings) >= CLEAR
    return {
        "trainTexts": len(train),
        "testTexts": len(test),
        "accuracy": round(accuracy_score(truth, answer), 4),
        "macroF1": round(f1_score(truth, answer, average="macro"), 4),
        "clearTestTexts": int(clear.sum()),
        "clearAccuracy": round(accuracy_score(truth[clear], answer[clear]), 4),
    }


def _held_out(document: str) -> bool:
    return hashlib.sha256(document.encode()).digest()[0] < 256 // 5


def _trained(texts: list[str], positive: np.ndarray, lexicon: dict[str, float]) -> onnx.ModelProto:
    valences = {word: valence for word, valence in lexicon.items() if re.fullmatch(WORD, word)}
    frequencies = TfidfVectorizer(token_pattern=WORD, ngram_range=(1, 2), min_df=3)
    words = CountVectorizer(token_pattern=WORD, vocabulary=sorted(valences))
    summed = words.transform(texts) @ np.array([valences[word] for word in sorted(valences)])
    features = hstack([frequencies.fit_transform(texts), (summed / np.sqrt(summed**2 + 15))[:, None]]).tocsr()
    regression = LogisticRegression(C=5, max_iter=1000).fit(features, positive)

    ngrams = frequencies.get_feature_names_out()
    rarity = dict(zip(ngrams, frequencies.idf_, strict=True))
    slope = dict(zip(ngrams, regression.coef_[0], strict=False))
    pool = sorted(rarity.keys() | valences.keys(), key=lambda ngram: (ngram.count(" "), ngram))
    return _graph(
        pool,
        rarity=np.array([rarity.get(ngram, 0) for ngram in pool], np.float32),
        valence=np.array([[valences.get(ngram, 0)] for ngram in pool], np.float32),
        slope=np.array([[slope.get(ngram, 0)] for ngram in pool], np.float32),
        valence_slope=np.array(regression.coef_[0, -1:], np.float32),
        intercept=np.array(regression.intercept_, np.float32),
    )


def _graph(pool: list[str], **parameters: np.ndarray) -> onnx.ModelProto:
    """Counts of the n-grams; from them the TF-IDF term and the lexicon's; their sum z; softmax over (-z/2, z/2)."""
    node = helper.make_node
    unigrams = sum(" " not in ngram for ngram in pool)
    return graphs.model(
        "sentiment",
        [
            node("StringNormalizer", ["text"], ["lowered"], case_change_action="LOWER", locale="C.UTF-8"),
            node(
                "Tokenizer",
                ["lowered"],
                ["tokens"],
                domain=graphs.MICROSOFT,
                mark=0,
                pad_value="",
                mincharnum=1,
                tokenexp=WORD,
            ),
            node(
                "TfIdfVectorizer",
                ["tokens"],
                ["counts"],
                mode="TF",
                min_gram_length=1,
                max_gram_length=2,
                max_skip_count=0,
                ngram_counts=[0, unigrams],
                ngram_indexes=list(range(len(pool))),
                pool_strings=[token for ngram in pool for token in ngram.split(" ")],
            ),
            node("Mul", ["counts", "rarity"], ["weighted"]),
            node("ReduceL2", ["weighted"], ["length"], axes=[1], keepdims=1),
            node("Max", ["length", "smallest"], ["divisor"]),
            node("MatMul", ["weighted", "slope"], ["projected"]),
            node("Div", ["projected", "divisor"], ["ngram_term"]),
            node("MatMul", ["counts", "valence"], ["summed"]),
            node("Mul", ["summed", "summed"], ["squared"]),
            node("Add", ["squared", "fifteen"], ["shifted"]),
            node("Sqrt", ["shifted"], ["root"]),
            node("Div", ["summed", "root"], ["compound"]),
            node("Mul", ["compound", "valence_slope"], ["valence_term"]),
            node("Sum", ["ngram_term", "valence_term", "intercept"], ["logit"]),
            node("MatMul", ["logit", "halves"], ["logits"]),
            node("Softmax", ["logits"], ["scores"], axis=-1),
        ],
        inputs=[graphs.tensor("text", graphs.STRING, graphs.BATCH)],
        outputs=[graphs.tensor("scores", graphs.FLOAT, graphs.BATCH, 2)],
        initializers=graphs.constants(
            **parameters,
            smallest=np.array(1e-12, np.float32),
            fifteen=np.array(15, np.float32),
            halves=np.array([[-0.5, 0.5]], np.float32),
        ),
    )
