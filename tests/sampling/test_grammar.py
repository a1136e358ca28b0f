"""Regular expressions against Python's own, over every kind of symbol; and what cannot be met."""

import re

import numpy as np
import pytest
import torch

from pieria.errors import UsageError
from pieria.forms import Tokens
from pieria.modalities.subwords import BytePairs
from pieria.modalities.symbols import Bytes, Characters, Words
from pieria.models.gpt import GPT, GPTSettings
from pieria.noise import ItemNoise
from pieria.sampling.beams import beam_search
from pieria.sampling.decoding import Decoding, drawn, generate, stream
from pieria.sampling.grammar import Regex

TEXT = "the cat sat on a mat, and the dog (who had 12 bones) sat by the door.\nwas there a café? yes: 7 of them!\n"


def network(form):
    torch.manual_seed(0)
    return GPT(GPTSettings(layers=1, heads=2, width=16), form).eval()


def learned(kind):
    return {
        "char": lambda: Characters.learn([TEXT], False),
        "byte": Bytes,
        "word": lambda: Words.learn([TEXT], 0, True),
        "bpe": lambda: BytePairs.learn([TEXT * 3], 300),
    }[kind]()


def counted(rows, lengths, end):
    """The symbols of each row that count, without an end."""
    return [[symbol for symbol in row[:size].tolist() if symbol != end] for row, size in zip(rows, lengths, strict=True)]


def decoded(symbols, rows, lengths, end):
    return [symbols.decode(np.array(row, dtype=np.int64)) for row in counted(rows, lengths, end)]


EXPRESSIONS = {
    "char": ["(the|a) (cat|dog)( sat)?", "[a-z]{3,5}: [0-9]{2}", r"\w+é\?", "t.*[.!]", "(ca|ba)*t"],
    "byte": ["(the|a) (cat|dog)( sat)?", "[A-Z][a-z]{2}é", r"\d+(\.\d+)?", "a/b"],
    "word": ["the (cat|dog) sat", "(the|a) .* (sat|by)", r"yes: \d of them!", "cat"],
    "bpe": ["(the|a) (cat|dog)( sat)?", " ?[A-Z][a-z]+, [0-9]{4}", "é+"],
}


@pytest.mark.parametrize(("kind", "pattern"), [(kind, each) for kind, many in EXPRESSIONS.items() for each in many])
@pytest.mark.parametrize("ends", [True, False])
def test_what_is_drawn_matches(kind, pattern, ends):
    symbols = learned(kind)
    form = Tokens(symbols.size + ends, 20, symbols.size if ends else None)
    model, regex = network(form), Regex(pattern, symbols.spelled(), form, between=symbols.between)
    made = drawn(model, 12, Decoding(length=20), ItemNoise(0, 12), rules=[regex])
    texts = decoded(symbols, made.symbols, made.lengths, form.end)
    met = [regex.met(row) for row in counted(made.symbols, made.lengths, form.end)]
    for text, whole in zip(texts, met, strict=True):
        assert whole == bool(re.fullmatch(pattern, text)), text
    if ends and kind in ("char", "word"):  # there is room for every match, and none is cut
        assert all(met)
    one = list(stream(model, Decoding(length=20), ItemNoise(0, 1), rules=[regex]))
    assert symbols.decode(np.array(one, dtype=np.int64)) == texts[0]
    found = beam_search(model, 1, Decoding(length=20), beams=4, length_penalty=0, rules=[regex])
    best = decoded(symbols, found.best, found.lengths[:, 0], form.end)[0]
    if ends and kind in ("char", "word"):
        assert re.fullmatch(pattern, best)
    again = drawn(model, 3, Decoding(length=20), ItemNoise(0, 3), rules=[regex])
    assert decoded(symbols, again.symbols, again.lengths, form.end) == texts[:3]


def test_it_draws_from_the_law_that_is_left():
    """Two texts can be written; each is drawn as often as the odds that the mask leaves say."""
    symbols = learned("char")
    form = Tokens(symbols.size + 1, 6, symbols.size)
    model, regex = network(form), Regex("a|the", symbols.spelled(), form)
    made = generate(model, 4000, Decoding(), ItemNoise(0, 4000), rules=[regex])
    first = int(symbols.encode("a")[0])
    with torch.no_grad():
        odds = model.logits(torch.tensor([[form.begin]]))[0, 0]
    pair = odds[[first, int(symbols.encode("t")[0])]].softmax(0)
    assert float((made[:, 0] == first).float().mean()) == pytest.approx(float(pair[0]), abs=0.03)


@pytest.mark.parametrize(
    ("kind", "pattern", "said"),
    [
        ("char", "cat|Dog(", "cannot be read: unclosed group"),
        ("char", "(?=a)b", "look-ahead"),
        ("char", "X[0-9]", "no text that this run can write"),
        ("char", "cat ZZ", "no text that this run can write"),
        ("char", "[^\\s\\S]", "no text that this run can write"),
        ("char", "a{21}", "no text of 19 symbols"),
        ("byte", "a{21}", "no text of 19 symbols"),
        ("word", "the horse", "no text that this run can write"),
        ("word", "the\nthe", "no text that this run can write"),
        ("word", "(the ){20}cat", "no text of 19 symbols"),
        ("bpe", "a{900}", "no text of 19 symbols"),
    ],
)
def test_what_no_output_can_meet_is_refused_before_drawing(kind, pattern, said):
    symbols = learned(kind)
    form = Tokens(symbols.size + 1, 20, symbols.size)
    with pytest.raises(UsageError, match=re.escape(said)):
        Regex(pattern, symbols.spelled(), form, between=symbols.between)


def test_dead_ends_are_not_entered():
    """Of ``catX|cab`` only the second can be spelled, so after ``ca`` there is no way to the first."""
    symbols = learned("char")
    form = Tokens(symbols.size + 1, 20, symbols.size)
    regex = Regex("catX|cab", symbols.spelled(), form)
    made = drawn(network(form), 20, Decoding(), ItemNoise(0, 20), rules=[regex])
    assert set(decoded(symbols, made.symbols, made.lengths, form.end)) == {"cab"}


def test_a_large_vocabulary_of_words_is_followed_roughly_where_it_must_be():
    """The library's limits on size are met by an expression that lets any of thousands of words follow anywhere."""
    letters = np.random.default_rng(0)
    made_up = {"".join(letters.choice(list("abcdefghijklmnop"), letters.integers(3, 11))) for _ in range(8000)}
    words = Words([*sorted(made_up), "baca", "cacan", "N"], True)
    form = Tokens(words.size + 1, 20, words.size)
    regex = Regex("baca (.* )?(N|cacan)", words.spelled(), form, between=" ")
    made = drawn(network(form), 6, Decoding(), ItemNoise(0, 6), rules=[regex])
    for text in decoded(words, made.symbols, made.lengths, form.end):
        assert re.fullmatch("baca (.* )?(N|cacan)", text)
    assert regex.rough
    for pattern in ("baca .* zzz", "baca .* cacanx", "cacanx"):
        with pytest.raises(UsageError, match="no text that this run can write"):
            Regex(pattern, words.spelled(), form, between=" ")
