"""Beam search against what it stands in for: enumeration of every item, and greedy decoding."""

import pytest
import torch
from torch import nn

from pieria.data.batch import Batch
from pieria.errors import UsageError
from pieria.forms import Label, Tokens
from pieria.models.gpt import GPT, GPTSettings
from pieria.models.mix import Mix
from pieria.models.ngram import Ngram, NgramSettings
from pieria.noise import ItemNoise
from pieria.sampling.beams import beam_search, length_penalty_of
from pieria.sampling.decoding import Decoding, generate
from pieria.sampling.states import reordered
from tests.sampling.test_decoding import Table, possible

END = 2


def gpt(form, condition=None, seed=0):
    torch.manual_seed(seed)
    model = GPT(GPTSettings(layers=2, heads=2, width=16), form, condition).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8.0)  # an untrained network finds everything equally likely
    return model


def ngram(form, seed=0):
    model = Ngram(NgramSettings(order=3), form)
    chain = Table(form, seed)  # enough of it that no two counts tie where a search goes
    items = generate(chain, 3000, Decoding(), ItemNoise(seed, 3000))
    model.estimate(lambda: [Batch(items)])
    return model


def mixed(form):
    return Mix.of([gpt(form), ngram(form)])


FAMILIES = [gpt, ngram, mixed]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("penalty", [0.0, 0.6, 2.0])
def test_with_beams_enough_it_is_enumeration(family, penalty):
    form = Tokens(4, 4, end=END)
    model = family(form)
    items = torch.tensor(possible(form))
    with torch.no_grad():
        mask = (items == END).cumsum(1) - (items == END).long() == 0
        nats = model.log_prob(Batch(items, mask=mask)).double()
    scores = nats / torch.tensor([length_penalty_of(int(length), penalty) for length in mask.sum(1)], dtype=torch.float64)
    found = beam_search(model, 1, Decoding(), beams=len(items), length_penalty=penalty)
    order = scores.argsort(descending=True)
    torch.testing.assert_close(found.scores[0], scores[order], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.log_prob[0], nats[order], atol=1e-5, rtol=1e-5)
    assert found.best[0].tolist() == items[order[0]].tolist()
    assert sorted(map(tuple, found.symbols[0].tolist())) == possible(form)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("end", [END, None])
@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_one_beam_is_greedy(family, end, penalty):
    model = family(Tokens(5, 9, end=end))
    options = {"length": 7, "repetition_penalty": 1.3}
    prompts = torch.randint(3, 5, (6, 2), generator=torch.Generator().manual_seed(3))
    greedy = generate(model, 6, Decoding(temperature=0, **options), ItemNoise(0, 6), prompt=prompts)
    found = beam_search(model, 6, Decoding(**options), beams=1, length_penalty=penalty, prompt=prompts)
    width = greedy.shape[1]
    assert torch.equal(found.best[:, :width], greedy)


@pytest.mark.parametrize("family", FAMILIES)
def test_more_beams_find_no_worse(family):
    model = family(Tokens(6, 8, end=END))
    best = [float(beam_search(model, 1, Decoding(), beams=k, length_penalty=0).scores[0, 0]) for k in (1, 8, 400)]
    assert best[0] <= best[2] + 1e-6
    assert best[1] <= best[2] + 1e-6


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_those_of_the_model_and_the_batch_does_not_matter(family):
    form = Tokens(5, 20, end=END)
    model = family(form)
    prompts = torch.randint(3, 5, (7, 3), generator=torch.Generator().manual_seed(1))
    found = beam_search(model, 7, Decoding(), beams=3, prompt=prompts)
    for place in range(7):
        alone = beam_search(model, 1, Decoding(), beams=3, prompt=prompts[place : place + 1])
        torch.testing.assert_close(alone.scores[0], found.scores[place], atol=1e-5, rtol=1e-5)
        assert torch.equal(alone.best[0], found.best[place])
    best = found.best
    mask = (best == END).cumsum(1) - (best == END).long() == 0
    begin = torch.full((7, 1), form.begin)
    with torch.no_grad():
        nats = model.log_prob(Batch(best, mask=mask, context=torch.cat([begin, prompts], dim=1)))
    torch.testing.assert_close(found.log_prob[:, 0], nats.double(), atol=1e-4, rtol=1e-5)


def test_a_full_window_is_reordered_too():
    """Beyond its window a GPT reads part of its symbols anew: those of the row that went on."""
    model = gpt(Tokens(5, 6), seed=4)
    found = beam_search(model, 2, Decoding(length=25), beams=3, length_penalty=0)
    read = torch.cat([torch.full((2, 1), 5), found.best], dim=1)
    with torch.no_grad():
        law = model.logits(read[:, :-1]).double().log_softmax(-1)
    nats = law.gather(-1, found.best[..., None])[..., 0].sum(1)
    torch.testing.assert_close(found.log_prob[:, 0], nats, atol=1e-4, rtol=1e-5)


def test_conditions_go_with_their_items():
    label = Label(("a", "b"))
    model = gpt(Tokens(5, 8, end=END), label)
    both = beam_search(model, 2, Decoding(), beams=3, condition=torch.tensor([1, 0]))
    for place, which in enumerate((1, 0)):
        alone = beam_search(model, 1, Decoding(), beams=3, condition=torch.tensor([which]))
        assert torch.equal(alone.best[0], both.best[place])


class Ends(nn.Module):
    """The greedy first symbol leads nowhere good: 0 (.6) is followed by anything, 1 (.4) surely by the end."""

    def __init__(self):
        super().__init__()
        self.form, self.reach = Tokens(3, 4, end=END), 1
        rows = [[0.35, 0.35, 0.3], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.6, 0.4, 0.0]]
        self.odds = nn.Parameter(torch.tensor(rows).log())

    def start(self, n, condition=None):
        return {"read": [torch.zeros(n, 0, dtype=torch.int64)]}

    def step(self, tokens, state):
        return self.odds[tokens[:, -1]], {"read": [torch.cat([state["read"][0], tokens], dim=1)]}


def test_it_finds_what_greedy_decoding_misses():
    model = Ends()
    assert generate(model, 1, Decoding(temperature=0), ItemNoise(0, 1))[0, 0] == 0
    found = beam_search(model, 1, Decoding(), beams=2, length_penalty=0)
    assert found.best[0].tolist() == [1, 2, 2, 2]
    assert float(found.log_prob[0, 0]) == pytest.approx(torch.tensor(0.4).log())


@pytest.mark.parametrize("family", FAMILIES)
def test_reordered_states_go_on_as_their_rows(family):
    model = family(Tokens(5, 10))
    read = torch.randint(5, (4, 3), generator=torch.Generator().manual_seed(0))
    rows, then = torch.tensor([2, 2, 0, 3, 3]), torch.tensor([[1], [2], [3], [4], [0]])
    with torch.no_grad():
        _, state = model.step(read, model.start(4))
        logits, _ = model.step(then, reordered(model, state, rows))
        wanted = model.logits(torch.cat([read[rows], then], dim=1))[:, -1]
    torch.testing.assert_close(logits, wanted, atol=1e-5, rtol=1e-5)


def test_a_state_that_only_its_family_can_read_is_refused():
    with pytest.raises(UsageError, match="reorder"):
        reordered(Table(Tokens(4, 5)), (torch.zeros(2, 3), torch.zeros(3, 2)), torch.tensor([0]))


def test_what_is_asked_wrongly_is_said():
    model = Table(Tokens(4, 5, end=END))
    with pytest.raises(UsageError, match="0 beams"):
        beam_search(model, 1, Decoding(), beams=0)
    with pytest.raises(UsageError, match="penalty"):
        beam_search(model, 1, Decoding(), length_penalty=-1.0)
    with pytest.raises(UsageError, match="temperature 0"):
        beam_search(model, 1, Decoding(temperature=0))
