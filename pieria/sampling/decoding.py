"""Drawing symbol by symbol from any model that predicts: one loop for all of them.

Item i's symbol t is a function of the model's odds and of one uniform number that belongs to (seed, i, t), by inverting
the cumulative distribution in float64. So an item does not depend on the batch around it, and two batch sizes differ only
where a number falls within rounding of a boundary between two symbols.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from pieria.data.batch import check
from pieria.errors import FormError, UsageError
from pieria.forms import Form, Tokens
from pieria.models.contract import Predicts, Step
from pieria.noise import ItemNoise, Noise
from pieria.sampling.rules import Following, Least, NoRepeat, Rule
from pieria.sampling.truncation import min_p, penalised, top_k, top_p
from pieria.settings import Field, Settings

Stop = Callable[[Tensor], Tensor]

# uniform numbers are drawn for so many steps at once; changing it changes every sample
STEPS_A_DRAW = 64
# below so many multiply-adds a step, threads wait for each other longer than they work
ONE_THREAD = 2**22
# items that are drawn together: bounds the memory of caches, and changes nothing else
TOGETHER = 512


class Decoding(Settings):
    """How the next symbol is chosen from the model's odds: rules, penalty, then temperature, top-k, top-p and min-p."""

    temperature: float = Field(1.0, ge=0, description="odds are divided by it: below 1 safer, above 1 wilder, 0 is greedy")
    top_k: int | None = Field(None, ge=1, description="choose among the so many most probable symbols only")
    top_p: float = Field(1.0, gt=0, le=1, description="choose among the most probable symbols that together have this share")
    min_p: float = Field(
        0.0, ge=0, le=1, description="leave out symbols less probable than this times the most probable one"
    )
    repetition_penalty: float = Field(
        1.0, ge=1, description="above 1, symbols that already stand there become less probable"
    )
    no_repeat: int | None = Field(
        None, ge=1, description="the longest run of symbols that may stand twice for nothing; longer ones cost"
    )
    repeat_cost: float = Field(1.0, gt=0, description="nats that each symbol of a repeated run beyond no_repeat costs")
    length: int | None = Field(None, ge=1, description="the most new symbols; what the form's length leaves if not given")
    min_length: int | None = Field(None, ge=1, description="new symbols before which an item does not end")


class PredictsTokens(Predicts, Protocol):
    """A `Predicts` that tells its form, as every model does."""

    @property
    def form(self) -> Form:
        """The form, a `Tokens`."""
        ...


def choices(logits: Tensor, options: Decoding, seen: Tensor | None = None) -> Tensor:
    """The log-odds ``[batch, vocabulary]`` that ``options`` make of a model's: float64, minus infinity where ruled out."""
    odds = logits.double()
    if seen is not None:
        odds = penalised(odds, seen, options.repetition_penalty)
    if options.temperature == 0:
        return top_k(odds, 1)
    if options.temperature != 1:
        odds = odds / options.temperature
    if options.top_k is not None:
        odds = top_k(odds, options.top_k)
    return min_p(top_p(odds, options.top_p), options.min_p)


def chosen(odds: Tensor, uniform: Tensor) -> Tensor:
    """The symbol ``[batch]`` at which the cumulative distribution passes ``uniform`` (float64 ``[batch, 1]`` on [0, 1)).

    A symbol of probability 0 is never chosen: the sum must come to lie strictly above the number.
    """
    passed = torch.softmax(odds, dim=-1, dtype=torch.float64).cumsum(dim=-1)
    return torch.searchsorted(passed, uniform * passed[:, -1:], right=True)[:, 0]


@dataclass(frozen=True)
class Drawn:
    """What was drawn.

    Attributes:
        symbols: long ``[n, time]``, as `generate` gives them.
        lengths: long ``[n]``: how many of them count. An end counts too, padding behind it does not; nor does what a
            stream went on with after a rule or ``stop`` had ended it.
    """

    symbols: Tensor
    lengths: Tensor


class Growth:
    """``n`` items that grow by one symbol a step; `generate`, `stream` and `trace_symbols` are loops around it.

    What is read first is ``form.begin`` and the prompt, of which the last ``model.reach`` symbols: a model uses no more.
    """

    def __init__(
        self,
        model: PredictsTokens,
        n: int,
        options: Decoding,
        noise: Noise,
        prompt: Tensor | None = None,
        condition: Tensor | None = None,
        rules: Sequence[Rule] = (),
    ) -> None:
        form = tokens_of(model)
        if len(noise) != n:
            raise UsageError(f"noise for {len(noise)} items", f"noise for {n}", "Make it with ItemNoise(seed, n)")
        self.model, self.options, self.noise, self.form = model, options, noise, form
        given = prompt_rows(form, prompt, n)
        self.length = room(form, given.shape[1], options.length)
        self.device = given.device
        if isinstance(model, nn.Module):
            self.device = next((p.device for p in [*model.parameters(), *model.buffers()]), self.device)
        given = given.to(self.device)
        self.seen: Tensor | None = None
        if options.repetition_penalty != 1:
            self.seen = torch.zeros(n, form.vocabulary, dtype=torch.bool, device=self.device)
            self.seen.scatter_(1, given, True)
        self.rules: list[Following] = [rule.start(given) for rule in (*wishes(options, form), *rules)]
        self.read_first = first_read(model, given)
        self.logits, self.state = model.step(self.read_first, model.start(n, condition))
        self.uniforms = torch.empty(0)
        self.made = 0
        self.last = torch.empty(0, dtype=torch.int64)
        self.done = torch.zeros(n, dtype=torch.bool, device=self.device)
        self.lengths = torch.zeros(n, dtype=torch.int64, device=self.device)

    def odds(self) -> Tensor:
        """The log-odds ``[n, vocabulary]`` from which the next symbol is drawn."""
        logits = self.logits
        for rule in self.rules:
            logits = rule.change(logits)
        return choices(logits, self.options, self.seen)

    def draw(self) -> Tensor:
        """The next symbol of each item, ``[n]``; ``form.end`` for items that have ended."""
        if self.options.temperature == 0:  # of equally likely symbols the first, whatever the seed
            plain = self.seen is None and not self.rules
            symbols = (self.logits if plain else self.odds()).argmax(dim=-1)
        else:
            symbols = chosen(self.odds(), self._uniform())
        self.lengths += ~self.done
        if self.form.end is not None:
            symbols = symbols.masked_fill(self.done, self.form.end)
            self.done = self.done | (symbols == self.form.end)
        for rule in self.rules:
            rule.read(symbols)
            if rule.done is not None:
                self.done = self.done | rule.done
        self.made += 1
        self.last = symbols
        return symbols

    def read(self) -> None:
        """Let the model read what was drawn last."""
        symbols = self.last[:, None]
        if self.seen is not None:
            self.seen.scatter_(1, symbols, True)
        self.logits, self.state = self.model.step(symbols, self.state)

    def _uniform(self) -> Tensor:
        block, place = divmod(self.made, STEPS_A_DRAW)
        if place == 0:
            drawn = self.noise.uniform("symbol", (STEPS_A_DRAW,), step=block)
            self.uniforms = drawn.double().T.contiguous()[:, :, None].to(self.device)  # [step, item, 1]
        return self.uniforms[place]


def generate(
    model: PredictsTokens,
    n: int,
    options: Decoding,
    noise: Noise,
    *,
    prompt: Tensor | None = None,
    condition: Tensor | None = None,
    stop: Stop | None = None,
    rules: Sequence[Rule] = (),
) -> Tensor:
    """Draw ``n`` items; the new symbols (without the prompt), long ``[n, time]``.

    Items (a form with ``end``) end at the first ``end`` and are padded with it to the full width, which is
    ``options.length``, or what the form's length leaves after the prompt. Streams have exactly that many symbols, fewer only
    if ``stop`` or ``rules`` ended them all.

    Args:
        model: what predicts the next symbol.
        n: how many items; ``len(noise) == n``.
        options: how symbols are chosen.
        noise: item i reads row i.
        prompt: what stands at the beginning, long ``[time]`` (the same for all) or ``[n, time]``. Of a long one the last
            ``model.reach`` symbols are read, which is all that the model could use.
        condition: one a row.
        stop: is given the new symbols so far ``[n, made]`` after every step and says which items are done, bool ``[n]``.
            Done items are padded with ``end``; in a stream, which has none, they go on until all are done.
        rules: what is wished beyond the options, such as `sampling.grammar.Regex` or `sampling.rules.Bias`.

    Raises `UsageError` if prompt and length do not fit into an item of the form, `FormError` for unknown symbols.
    """
    return drawn(model, n, options, noise, prompt=prompt, condition=condition, stop=stop, rules=rules).symbols


def drawn(
    model: PredictsTokens,
    n: int,
    options: Decoding,
    noise: Noise,
    *,
    prompt: Tensor | None = None,
    condition: Tensor | None = None,
    stop: Stop | None = None,
    rules: Sequence[Rule] = (),
) -> Drawn:
    """What `generate` gives, with how much of it counts."""
    if n > TOGETHER and stop is None and isinstance(noise, ItemNoise):
        parts = []
        for first in range(0, n, TOGETHER):
            rows = slice(first, min(first + TOGETHER, n))
            lead = prompt[rows] if prompt is not None and prompt.dim() == 2 else prompt
            given = None if condition is None else condition[rows]
            part = noise.part(rows.start, rows.stop)
            parts.append(drawn(model, len(part), options, part, prompt=lead, condition=given, rules=rules))
        width = max(part.symbols.shape[1] for part in parts)  # streams that rules ended may differ
        whole = [nn.functional.pad(part.symbols, (0, width - part.symbols.shape[1])) for part in parts]
        return Drawn(torch.cat(whole), torch.cat([part.lengths for part in parts]))
    with at_rest(model, _small(model, n)), torch.inference_mode():
        growth = Growth(model, n, options, noise, prompt, condition, rules)
        made = torch.full((n, growth.length), growth.form.end or 0, dtype=torch.int64, device=growth.device)
        ends = growth.form.end is not None or stop is not None or bool(growth.rules)
        for place in range(growth.length):
            symbols = growth.draw()
            made[:, place] = symbols
            if stop is not None:
                growth.done = growth.done | stop(made[:, : place + 1]).to(growth.device)
            if place + 1 == growth.length or (ends and bool(growth.done.all())):
                break
            growth.read()
        if growth.form.end is None:
            made = made[:, : growth.made]
    # made in inference mode, which autograd would refuse to use later
    return Drawn(made.clone(), growth.lengths.clone())


def stream(
    model: PredictsTokens,
    options: Decoding,
    noise: Noise,
    *,
    prompt: Tensor | None = None,
    condition: Tensor | None = None,
    stop: Stop | None = None,
    rules: Sequence[Rule] = (),
) -> Iterator[int]:
    """The symbols of one item as they are drawn: those of `generate` with the same noise, up to but without ``end``."""
    small = _small(model, 1)
    with at_rest(model, small), torch.inference_mode():
        growth = Growth(model, 1, options, noise, prompt, condition, rules)
    made: list[int] = []
    while len(made) < growth.length:
        # a generator may be left and entered again by a caller with other wishes, so each step sets its own mode
        with at_rest(model, small), torch.inference_mode():
            if made:
                growth.read()
            symbol = int(growth.draw()[0])
        if symbol == growth.form.end:
            return
        made.append(symbol)
        yield made[-1]
        if bool(growth.done[0]):  # a rule said that nothing may follow
            return
        if stop is not None and bool(stop(torch.tensor([made]))[0]):
            return


def trace_symbols(
    model: PredictsTokens,
    options: Decoding,
    noise: Noise,
    *,
    prompt: Tensor | None = None,
    condition: Tensor | None = None,
    look: Callable[[Tensor], dict[str, Tensor]] | None = None,
) -> Iterator[Step]:
    """The steps of one sample: at each, the model's odds, those that the options left, and the symbol drawn.

    ``look`` is given all that was read so far, long ``[1, read]``, and may add tensors such as attention maps. The last
    step's ``x`` equals `generate` with the same noise.
    """
    small = _small(model, 1)
    with at_rest(model, small), torch.inference_mode():
        growth = Growth(model, 1, options, noise, prompt, condition)
        made = torch.empty(1, 0, dtype=torch.int64, device=growth.device)
    last = False
    while not last:
        with at_rest(model, small), torch.inference_mode():
            read = torch.cat([growth.read_first, made], dim=1)
            data = {
                "odds": torch.softmax(growth.logits[0].double(), dim=-1),
                "kept": torch.softmax(growth.odds()[0], dim=-1),
                **(look(read) if look is not None else {}),
            }
            symbols = growth.draw()
            made = torch.cat([made, symbols[:, None]], dim=1)
            ended = bool(growth.done[0])
            last = ended or growth.made == growth.length
            if last and growth.form.end is not None:
                made = nn.functional.pad(made, (0, growth.length - growth.made), value=growth.form.end)
            probability = float(data["odds"][symbols[0]])
            if not last:
                growth.read()
        yield Step(
            name=f"symbol {growth.made}",
            x=made.clone(),
            note=f"The model gave the drawn symbol a probability of {probability:.2g}"
            + (" and it ends the item." if ended else "."),
            data={**{name: value.clone() for name, value in data.items()}, "symbol": symbols.clone()},
        )


@contextmanager
def at_rest(model: object, one_thread: bool = False) -> Iterator[None]:
    """The model in evaluation mode (no dropout), with one thread if so wished; afterwards as it was."""
    threads = torch.get_num_threads()
    if one_thread:
        torch.set_num_threads(1)
    training = isinstance(model, nn.Module) and model.training
    if isinstance(model, nn.Module) and training:
        model.eval()
    try:
        yield
    finally:
        if isinstance(model, nn.Module) and training:
            model.train()
        if one_thread:
            torch.set_num_threads(threads)


def _small(model: object, n: int) -> bool:
    """Whether a step of ``n`` items is so little work that one thread does it sooner than several."""
    return isinstance(model, nn.Module) and n * sum(p.numel() for p in model.parameters()) < ONE_THREAD


def wishes(options: Decoding, form: Tokens) -> list[Rule]:
    """The rules that the options themselves ask for."""
    found: list[Rule] = []
    if options.no_repeat is not None:
        found.append(NoRepeat(options.no_repeat, options.repeat_cost))
    if options.min_length is not None and form.end is not None:
        found.append(Least(options.min_length, form.end))
    return found


def tokens_of(model: PredictsTokens) -> Tokens:
    """The model's form; `FormError` if it is not one of tokens."""
    if not isinstance(model.form, Tokens):
        raise FormError(f"a model of {model.form.kind}", "one of tokens, to be drawn symbol by symbol")
    return model.form


def first_read(model: PredictsTokens, given: Tensor) -> Tensor:
    """What is read before the first new symbol, long ``[n, ≤ reach]``: ``begin`` and the prompt ``given`` ``[n, time]``."""
    begin = given.new_full((len(given), 1), tokens_of(model).begin)
    return torch.cat([begin, given], dim=1)[:, -max(1, model.reach) :]


def prompt_rows(form: Tokens, prompt: Tensor | None, n: int) -> Tensor:
    """One prompt a row, long ``[n, time]``, from none, one for all, or one each."""
    if prompt is None or prompt.numel() == 0:
        return torch.empty(n, 0, dtype=torch.int64)
    rows = prompt.expand(n, -1) if prompt.dim() == 1 else prompt
    check(form, rows, "the prompt")
    if rows.shape[0] != n:
        raise UsageError(f"{rows.shape[0]} prompts for {n} items", "one prompt, or one an item", "Repeat or leave out some")
    return rows


def room(form: Tokens, given: int, length: int | None) -> int:
    """How many symbols to make: in a stream any number, in an item what its length leaves after the prompt."""
    if form.end is None:
        return length or form.length
    room = form.length - given
    if room < 1 or (length or 1) > room:
        raise UsageError(
            f"a prompt of {given} symbols and {length or 1} new ones",
            f"an item of this form has at most {form.length} symbols",
            "Shorten the prompt or ask for a smaller length",
        )
    return length or room
