"""A chat model of two cores: does it keep its format, and answer whatever is typed? Beside the n-gram.

Protocol: Schema-Guided Dialogue as published, 2,048 byte pairs, windows of 256 symbols cut between turns. The preset "small"
of the GPT learns the assistant's turns for the time below. Perplexity is per symbol of those of the test part (the first
60,000 symbols), beside the n-gram that scorecards use, fitted on the same turns. Format: replies to 300 real beginnings of
the test part, spread evenly, at temperature 0.7 and top-p 0.9, each of at most 128 symbols; one that keeps it
ends with the symbol for the end of a turn and holds no other symbol of the template. Fuzzing: 10,000 turns of random length
and content (any Unicode, control characters, forged roles, Jinja, nothing) in conversations that go on or begin
anew; every hundredth is asked twice with the same seed. Goals: 98 % in format and no crash; in an hour 99 % and a perplexity
below the n-gram's, which a gate of some minutes only prints.
"""

import random

import torch

from benchmarks import Outcome
from pieria import chatting
from pieria.errors import PieriaError
from pieria.evaluation.baselines import cheap
from pieria.evaluation.comparison import spread
from pieria.evaluation.replies import Replies, answer, replies_of
from pieria.evaluation.tokens import likelihood
from pieria.forms import Tokens
from pieria.modalities.chat import Chat
from pieria.modalities.messages import Conversation, Message, conversation_of
from pieria.modalities.opening import Dataset, open_data
from pieria.models.contract import Model
from pieria.models.gpt import GPT, GPTSettings
from pieria.noise import ItemNoise, seeded
from pieria.training.loop import History, learn
from pieria.training.plan import Plan

SETTINGS = {"vocabulary": 2048, "length": 256}
SECONDS = {True: 270.0, False: 3000.0}
KEPT = {True: 0.98, False: 0.99}
ASKED, TURNS, SCORED = 300, 10_000, 60_000


def fitted(dataset: Dataset, seconds: float) -> tuple[GPT, History]:
    """The GPT after so many seconds."""
    preset = GPT.presets["small"]
    train = dataset.examples("train")
    with seeded(0, "weights"):
        model = GPT(GPTSettings.of({k: v for k, v in preset.items() if k in GPTSettings.model_fields}), train.form)
    plan = Plan.layered(
        GPT.training_defaults, {"batch": 16, "seconds": seconds, "threads": 2, "patience": 0, "evaluate_every": 0}
    )
    history = learn(model, train, None, plan)
    return model.eval(), history


def kept(model: Model, chat: Chat, replies: Replies) -> tuple[float, float]:
    """The share of replies that keep the format, and the mean length of a reply in symbols."""
    options = chatting.chosen(model, {})
    places = spread(len(replies.examples), ASKED).tolist()
    silent = torch.tensor(list(chat.specials.values()))
    well, symbols = 0, 0
    for place in places:
        lead = replies.lead(place)
        made = answer(model, lead, 128, replies.last, ItemNoise(0, 1, first=place), options)
        symbols += len(made)
        well += bool(made[-1] == replies.last) and not bool(torch.isin(made[:-1], silent).any())
    return well / len(places), symbols / len(places)


def typed(chooser: random.Random, specials: list[str]) -> str:
    """Something that a person might type, or an attacker."""
    parts = [*specials, "user:", "\nassistant: sure", "{{ messages }}", "{% raw %}", "\x1b[2J", "\x00", "\ufdd0", "\ufdd1"]
    kind = chooser.randrange(6)
    if kind == 0:
        return ""
    if kind == 1:
        return "".join(chr(chooser.randrange(0x110000)) for _ in range(chooser.randrange(1, 40)))
    if kind == 2:
        return "".join(chooser.choice([*parts, "a", " ", "\n"]) for _ in range(chooser.randrange(1, 30)))
    if kind == 3 and chooser.random() < 0.1:
        return "please book a table for two " * chooser.randrange(1, 400)
    return " ".join(chooser.choice(["book", "a", "table", "for", "two", "in", "London", "8pm", "?"]) for _ in range(8))


def fuzz(model: Model, chat: Chat) -> tuple[int, bool]:
    """How many of the turns failed, and whether those asked twice had one answer."""
    chooser = random.Random(0)
    failed, same = 0, True
    said: list[Message] = []
    for turn in range(TURNS):
        if chooser.random() < 0.3:
            said = [Message("system", "Be brief. " + typed(chooser, [])[:40])] if chooser.random() < 0.1 else []
        said.append(Message("user", typed(chooser, list(chat.specials))))
        options = {"length": 2, "temperature": chooser.choice([0, 0.7, 2.0])}
        try:
            conversation: Conversation = conversation_of(said)
            reply = "".join(chatting.reply(model, chat, conversation, ItemNoise(turn, 1), options=options))
            if turn % 100 == 0:
                again = "".join(chatting.reply(model, chat, conversation, ItemNoise(turn, 1), options=options))
                same &= again == reply
            failed += any(special in reply for special in chat.specials)
        except PieriaError:
            failed += 1
            said = []
            continue
        said.append(Message("assistant", reply))
    return failed, same


def measure(gate: bool) -> Outcome:
    dataset = open_data("schema-guided", settings=SETTINGS)
    form, chat = dataset.form, dataset.modality
    assert isinstance(form, Tokens)
    assert isinstance(chat, Chat)
    model, history = fitted(dataset, SECONDS[gate])
    train, test = dataset.examples("train"), dataset.examples("test")
    replies = replies_of(test)
    assert replies is not None
    share, length = kept(model, chat, replies)
    baseline = cheap(form, train, "")
    assert baseline.model is not None
    ours, theirs = (likelihood(each, test, SCORED) for each in (model, baseline.model))
    perplexity, other = (float(torch.tensor(each.per_symbol).exp()) for each in (ours, theirs))
    failed, same = fuzz(model, chat)
    return Outcome(
        measured={
            "replies that keep format": round(share, 4),
            "perplexity of replies, gpt": round(perplexity, 3),
            "perplexity of replies, n-gram": round(other, 3),
            "symbols scored": int(ours.symbols.sum()),
            "symbols in a reply": round(length, 1),
            "fuzzed turns": TURNS,
            "fuzzed turns that failed": failed,
            "same seed, same reply": same,
            "steps": history.steps,
            "training seconds": round(history.seconds, 1),
        },
        goal={
            "replies that keep format": f"≥ {KEPT[gate]}",
            **({} if gate else {"perplexity of replies, gpt": "< the n-gram's"}),
            "fuzzed turns that failed": 0,
            "same seed, same reply": True,
        },
        passed=share >= KEPT[gate] and (gate or perplexity < other) and not failed and same,
        notes=[
            f"{baseline.name}; {sum(p.numel() for p in model.parameters()):,} parameters; "
            f"{form.vocabulary:,} symbols, {train.scored():,} of them learned from"
        ],
    )
