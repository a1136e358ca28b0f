"""The chat modality: files of messages as symbols of which replies are learned, and back."""

import gzip
import json

import numpy as np
import pytest
import torch

from pieria.data.examples import Examples
from pieria.errors import DataError, FormError, UsageError
from pieria.forms import Tokens
from pieria.modalities import finding
from pieria.modalities.chat import Chat
from pieria.modalities.contract import Collection
from pieria.modalities.messages import Conversation, conversation_of
from pieria.modalities.opening import open_data
from pieria.modalities.text import Text
from tests.data.mirror import from_mirror, needs_mirror  # noqa: F401

TALKS = [
    [("user", f"Hello, I am {name}."), ("assistant", f"Good day, {name}!"), ("user", "Bye."), ("assistant", "See you.")]
    for name in ("Ada", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hal")
]


def records(talks):
    return "".join(
        json.dumps({"messages": [{"role": role, "content": content} for role, content in talk]}) + "\n" for talk in talks
    )


def learned(tmp_path, talks=TALKS, **settings):
    path = tmp_path / "talks.jsonl"
    path.write_text(records(talks))
    modality = Chat(Chat.Settings.of({"tokenizer": "char", **settings}))
    collection = modality.read(path)
    modality.learn(collection)
    return modality, collection


def test_it_is_found_and_text_when_told(tmp_path):
    path = tmp_path / "talks.jsonl.gz"
    path.write_bytes(gzip.compress(records(TALKS).encode()))
    assert finding.find(path) == ("chat", "JSON records with messages, one a line")
    assert open_data(path).modality.name == "chat"
    assert "flattened" in " ".join(open_data(path, as_="text").findings)
    assert finding.find(path, column="id")[0] == "text"


@pytest.mark.parametrize("tokenizer", ["char", "byte", "word", "bpe"])
def test_conversations_come_back_and_only_replies_are_learned(tmp_path, tokenizer):
    modality, collection = learned(tmp_path, tokenizer=tokenizer, vocabulary=300 if tokenizer == "bpe" else 0)
    assert modality.decode(modality.encode(collection.artifacts)) == list(collection.artifacts)
    examples = modality.examples(collection)
    batch = examples.batch([0, 3])
    for row, mask in zip(batch.x, batch.mask, strict=True):
        shown = [modality.strings()[symbol] for symbol in row[mask]]
        assert shown.count("<|end|>") == 2
        assert shown[-1] == "<|end|>"
        assert not any(marker in shown for marker in ("<|user|>", "<|assistant|>", "⏎"))
        assert "Hello" not in modality.said(row[mask].numpy())
        assert "See you." in modality.said(row[mask].numpy())
    assert examples.scored() == int(examples.masks.sum())
    restored = Chat.restore(modality.settings, json.loads(json.dumps(modality.state())))
    assert restored.form == modality.form
    assert restored.tokenisation == modality.tokenisation
    assert torch.equal(restored.encode(collection.artifacts), modality.encode(collection.artifacts))
    assert torch.equal(restored.beginning("Hello."), modality.beginning("Hello."))


def test_all_turns_can_be_learned(tmp_path):
    modality, collection = learned(tmp_path, learn="all")
    batch = modality.examples(collection).batch([0])
    ends = int((batch.x[0] == modality.form.end).int().argmax())
    assert batch.mask[0].tolist() == [place <= ends for place in range(batch.x.shape[1])]


def test_what_is_not_known_has_a_symbol_and_no_text_becomes_a_role(tmp_path):
    modality, _ = learned(tmp_path)
    odd = "<|assistant|> ☃ \ud800 \x00<|end|>⏎"
    symbols, _ = modality.symbols_of(conversation_of([("user", odd), ("assistant", odd)]))
    roles = [modality.strings()[symbol] for symbol in symbols if symbol in modality.specials.values()]
    assert roles == ["<|user|>", "<|end|>", "<|assistant|>", "<|end|>"]


def test_long_conversations_are_cut_between_turns_and_told(tmp_path):
    talk = [("system", "Be good."), *[turn for _ in range(6) for turn in (("user", "How so?"), ("assistant", "So so."))]]
    modality, collection = learned(tmp_path, [*TALKS, talk], length=64)
    examples = modality.examples(collection)
    assert "1 conversations are longer than 64 symbols" in " ".join(collection.findings)
    parts = modality.decode(examples.batch(range(len(TALKS), len(examples))).x)
    assert all(part.messages[0].content == "Be good." and part.messages[1].role == "user" for part in parts)
    assert sum(len(part.messages) - 1 for part in parts) == 12
    # what is scored is every reply, once
    assert int(examples.masks[len(TALKS) :].sum()) == 6 * (len("So so.") + 1)


def test_one_exchange_that_is_too_long_is_cut_or_left_out_and_told(tmp_path):
    talks = [
        *TALKS,
        [("user", "Tell."), ("assistant", "x" * 200)],
        [("user", "y" * 200), ("assistant", "No.")],
    ]
    modality, collection = learned(tmp_path, talks, length=64)
    examples = modality.examples(collection)
    assert len(examples) == len(TALKS) + 1
    said = " ".join(collection.findings)
    assert "2 exchanges are longer than 64 symbols" in said
    assert "1 parts have no reply within 64 symbols" in said
    with pytest.raises(FormError, match="conversation 9 has"):
        modality.encode(collection.artifacts)
    with pytest.raises(DataError, match="no reply begins within 64"):
        modality.examples(Collection([conversation_of(talks[-1])]))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is not JSON"),
        ('{"text": "a"}', "line 2 has no list of messages but: text"),
        ("[1]", "line 2 has no list of messages but: list"),
        ('{"messages": "a"}', "line 2 has no list of messages"),
        ('{"messages": []}', "line 2 has no message of the assistant"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "line 2 has no message of the assistant"),
        ('{"messages": ["a"]}', "line 2, message 1 is a str"),
        ('{"messages": [{"role": "user"}]}', "line 2, message 1 has no 'content'; its fields: role"),
        ('{"messages": [{"content": "a"}]}', "line 2, message 1 has no 'role'"),
        ('{"messages": [{"role": "bot", "content": "a"}]}', "line 2, message 1 has the role 'bot'"),
        ('{"messages": [{"role": "user", "content": null}]}', "line 2, message 1 has a content that is a NoneType"),
        (
            '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": " "}]}',
            r"line 2, message 2 \(assistant\) is empty",
        ),
        (
            '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, '
            '{"role": "system", "content": "c"}]}',
            "line 2, message 3 is of the system",
        ),
    ],
)
def test_bad_records_are_named_by_file_line_and_message(tmp_path, line, message):
    path = tmp_path / "bad.jsonl"
    path.write_text(records(TALKS[:1]) + line + "\n")
    with pytest.raises(DataError, match=rf"bad\.jsonl, {message}"):
        Chat(Chat.Settings.of({})).read(path)


def test_an_assistant_that_begins_and_messages_in_a_row_are_put_in_turn_and_told(tmp_path):
    path = tmp_path / "odd.jsonl"
    path.write_text(records([[("assistant", "Welcome."), ("user", "Hi."), ("user", "Hm?"), ("assistant", "Yes.")]]))
    collection = Chat(Chat.Settings.of({})).read(path)
    (talk,) = collection.artifacts
    assert [tuple(message) for message in talk.messages] == [
        ("user", ""), ("assistant", "Welcome."), ("user", "Hi.\nHm?"), ("assistant", "Yes."),
    ]  # fmt: skip
    assert "1 began with the assistant: an empty turn of the user was put before" in collection.findings
    assert "1 messages followed one of the same speaker and were joined with it" in collection.findings


def test_settings_that_cannot_be_are_refused(tmp_path):
    with pytest.raises(UsageError, match="no column"):
        Chat(Chat.Settings.of({})).read(tmp_path / "a.jsonl", "id")
    with pytest.raises(UsageError, match="cannot be read"):
        learned(tmp_path, template=str(tmp_path / "nowhere.jinja"))
    with pytest.raises(DataError, match="is a folder"):
        Chat(Chat.Settings.of({})).read(tmp_path)


def test_a_template_of_ones_own(tmp_path):
    (tmp_path / "own.jinja").write_text(
        "{% for m in messages %}<|turn|>{{ m.role }}\n{{ m.content }}<|over|>{% endfor %}"
        "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
    )
    modality, collection = learned(tmp_path, template=str(tmp_path / "own.jinja"))
    assert set(modality.specials) == {"<|turn|>", "<|over|>"}
    (text,) = modality.decode(modality.encode(collection.artifacts[:1]))
    assert text == modality.template.render(collection.artifacts[0])
    (tmp_path / "own.jinja").unlink()  # the run has its own copy
    restored = Chat.restore(modality.settings, json.loads(json.dumps(modality.state())))
    assert restored.decode(restored.encode(collection.artifacts[:1])) == [text]


@pytest.mark.parametrize("tokenizer", ["char", "word", "byte"])
@pytest.mark.parametrize("items", ["stream", "lines"])
def test_beside_text_conversations_are_plain_lines(tmp_path, tokenizer, items):
    text = Text(Text.Settings.of({"tokenizer": tokenizer, "items": items, "length": 128, "unknown": "no"}))
    text.learn(Collection(["user assistant : \n Hello. Good day to you.\n"], stream=items == "stream"))
    chat = Chat.beside(text)
    assert chat.form == text.form
    talk = conversation_of([("user", "Hello ☃"), ("assistant", "Good day")])
    symbols, mask = chat.symbols_of(talk)
    assert symbols.max() < text.symbols.size
    assert "Good" in chat.said(symbols[mask])
    if tokenizer == "char":  # and what it has no symbol for is left out
        assert chat.decode(torch.from_numpy(symbols)[None].long()) == [conversation_of([("user", "Hello"), talk[0][1]])]
    restored = Chat.restore(chat.settings, json.loads(json.dumps(chat.state())))
    assert np.array_equal(restored.symbols_of(talk)[0], symbols)
    assert isinstance(chat.examples(Collection([talk])), Examples)


@pytest.mark.parametrize("end", [None, 8])
def test_beside_an_imported_text_its_own_template_and_specials_are_used(end):
    text = Text(Text.Settings.of({"tokenizer": "byte"}))
    text.learn(Collection(["abc"], stream=True))
    text.symbols.specials = {"<|im_start|>": 7, "<|im_end|>": 8}
    text.symbols.template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    text._form = Tokens(256, 64, end)  # whose texts may end as its turns do
    chat = Chat.beside(text)
    talk = conversation_of([("user", "<|im_end|>"), ("assistant", "b")])
    symbols, mask = chat.symbols_of(talk)
    assert (symbols == 7).sum() == 2
    assert (symbols == 8).sum() == 2
    assert symbols[mask].tolist() == [ord("b"), 8]
    batch = chat.examples(Collection([talk])).batch([0])
    assert batch.x[batch.mask].tolist() == [ord("b"), 8]
    (shown,) = chat.decode(torch.from_numpy(symbols)[None].long())
    assert shown == chat.template.render(talk)


def test_files_are_written_and_read_back(tmp_path):
    modality, collection = learned(tmp_path)
    modality.write(collection.artifacts, tmp_path / "out.jsonl", {"pieria": "0001"})
    assert modality.read(tmp_path / "out.jsonl").artifacts == collection.artifacts
    assert "assistant: See you." in modality.preview(collection.artifacts, tmp_path / "seen").read_text()
    assert all(
        isinstance(one, Conversation) for one in modality.decode(torch.randint(0, modality.form.vocabulary, (50, 30)))
    )


@needs_mirror
@pytest.mark.parametrize(("name", "conversations"), [("topical-chat", [1931, 112, 113])])
def test_the_dialogues_of_the_catalogue(name, conversations, from_mirror):  # noqa: F811
    dataset = open_data(name, settings={"vocabulary": 512, "length": 256})
    assert [len(dataset.parts[part]) for part in ("train", "validation", "test")] == conversations
    collection = dataset.parts["test"]
    examples = dataset.examples("test")
    replies = sum(message.role == "assistant" for talk in collection.artifacts for message in talk.messages)
    end = dataset.modality.specials["<|end|>"]
    lost = sum(int(line.split()[1].replace(",", "")) for line in dataset.findings if "left out" in line)
    cut = sum(int(line.split()[1].replace(",", "")) for line in dataset.findings if "beginning counts" in line)
    assert replies - cut <= int((examples.x[examples.masks] == end).sum()) <= replies
    assert lost <= cut < 0.1 * replies
