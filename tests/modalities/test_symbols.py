import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pieria.errors import DataError
from pieria.modalities.subwords import BytePairs, Imported
from pieria.modalities.symbols import TOKENISATIONS, Bytes, Characters, Words, characters_in

CORPUS = "The cat sat on the mat.\n\nDie Kätzchen saßen — auf 3 Matten! 日本 😀\n" * 5
anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)


@pytest.fixture(scope="module")
def pairs():
    return BytePairs.learn([CORPUS], 300)


@given(anything)
def test_characters_are_exact_and_counted(text):
    symbols = Characters.learn([text], unknown=False)
    encoded = symbols.encode(text)
    assert symbols.decode(encoded) == text
    assert symbols.characters(encoded) == len(text)
    assert symbols.size == len(set(text)) == len(characters_in([text]))


@given(anything)
def test_bytes_and_pairs_know_every_text(pairs, text):
    for symbols in (Bytes(), pairs):
        encoded = symbols.encode(text)
        assert symbols.decode(encoded) == text
        assert symbols.characters(encoded) == len(text)
        # it adds up over windows, also where one cuts a character in two
        middle = len(encoded) // 2
        assert symbols.characters(encoded[:middle]) + symbols.characters(encoded[middle:]) == len(text)


def test_pairs_join_and_are_as_many_as_asked(pairs):
    assert pairs.size == 300
    assert len(pairs.encode(CORPUS)) < len(CORPUS.encode()) * 0.8
    assert any(len(string) > 2 for string in pairs.strings())


def test_pairs_of_a_long_text_are_exact(pairs):
    text = CORPUS * 9000 + "no break at the end"
    assert pairs.decode(pairs.encode(text)) == text


lines = st.lists(st.lists(st.text("abcé", min_size=1, max_size=4), max_size=5).map(" ".join), min_size=1, max_size=6)


@given(lines.map("\n".join))
def test_words_are_exact_up_to_runs_of_space(text):
    symbols = Words.learn([text], 0, unknown=False)
    encoded = symbols.encode(text)
    assert symbols.decode(encoded) == text
    # the last word is counted with the space that follows it
    missing = 1 if text and text[-1] != "\n" else 0
    blank_first = text.startswith("\n")
    assert symbols.characters(encoded) == len(text) + missing - blank_first


def test_words_are_ranked_limited_and_closed():
    free = Words.learn(["b a b\n\nc b a"], 0, unknown=True)
    assert free.words == ["b", "\n", "a", "c", "<unk>"]
    assert free.decode(free.encode("a  never b")) == "a <unk> b"
    few = Words.learn(["b a b\n\nc b a"], 3, unknown=True)
    assert few.words == ["b", "\n", "<unk>"]
    closed = Words.learn(["b a <unk> b"], 0, unknown=True)
    assert closed.closed
    assert sorted(closed.words) == ["<unk>", "a", "b"]
    assert Words.learn(["b a <unk> b"], 2, unknown=True).words == ["b", "<unk>"]
    strict = Words.learn(["b a"], 0, unknown=False)
    with pytest.raises(DataError, match=r"the word 'zebra' on line 2 .*2 words"):
        strict.encode("a b\na zebra")


def test_an_unknown_character_is_named_with_its_line():
    symbols = Characters.learn(["abc \n"], unknown=False)
    with pytest.raises(DataError, match=r"'ö' \(U\+00F6, latin small letter o with diaeresis\) on line 3 .*unknown=yes"):
        symbols.encode("abc\nab\naöc")
    lenient = Characters.learn(["abc \n"], unknown=True)
    encoded = lenient.encode("aöbü")
    assert encoded.tolist() == [2, 5, 3, 5]
    assert lenient.decode(encoded) == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}"


def test_every_tokenisation_is_restored_from_json(pairs):
    import json

    named = {"config": {}, "size": pairs.size + 3, "begin": None, "end": 1, "mask": None}
    imported = Imported({"tokenizer": pairs.state()["tokenizer"], **named})
    learned = [Characters.learn([CORPUS], True), Bytes(), Words.learn([CORPUS], 5, unknown=True), pairs, imported]
    assert {symbols.kind for symbols in learned} == set(TOKENISATIONS)
    for symbols in learned:
        again = TOKENISATIONS[symbols.kind].restore(json.loads(json.dumps(symbols.state())))
        assert np.array_equal(again.encode(CORPUS), symbols.encode(CORPUS))
        assert again.size == symbols.size == len(symbols.strings())
        assert again.state() == symbols.state()


def test_an_imported_tokenizer_counts_characters_as_it_spells_them(pairs):
    def imported(tokenizer, **more):
        import json

        state = {"tokenizer": json.loads(tokenizer.to_str()), "config": {}, "begin": None, "end": None, "mask": None}
        return Imported({**state, "size": tokenizer.get_vocab_size(), **more})

    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    said = {"config": {}, "size": pairs.size + 1, "begin": None, "end": 7, "mask": None}
    levels = Imported({"tokenizer": pairs.state()["tokenizer"], **said})
    assert (levels.size, levels.end) == (pairs.size + 1, 7)
    assert levels.decode(levels.encode("naïve\n\n x")) == "naïve\n\n x"
    assert levels.characters(levels.encode("naïve\n\n x")) == 9
    pieces = Tokenizer(models.WordPiece({"[UNK]": 0, "play": 1, "##ing": 2}, unk_token="[UNK]"))
    pieces.pre_tokenizer, pieces.decoder = pre_tokenizers.Whitespace(), decoders.WordPiece()
    words = imported(pieces)
    assert words.decode(words.encode("playing")) == "playing"
    assert words.characters(words.encode("playing")) == 7
    vocabulary = {"\u2581": 0, "a": 1, "\u2581a": 2, "<0xC3>": 3, "<0xA9>": 4}
    spaced = Tokenizer(models.BPE(vocabulary, [("\u2581", "a")], byte_fallback=True))
    spaced.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    spaced.add_special_tokens([AddedToken("</s>", special=True)])
    symbols = imported(spaced)
    assert symbols.strings()[:3] == [" ", "a", " a"]
    assert symbols.characters(symbols.encode("a a\u00e9</s>")) == 4
