"""What a model writes for each of many prompts: in batches of like length, in the order in which they were given."""

import torch
from torch import Tensor
from torch.nn import functional

from pieria.data.batch import mask_after_end
from pieria.errors import FormError
from pieria.forms import Form, Tokens
from pieria.noise import ItemNoise
from pieria.sampling.beams import beam_search
from pieria.sampling.decoding import Decoding, PredictsTokens, generate

GREEDY = Decoding(temperature=0.0)


def answers(
    model: PredictsTokens,
    condition: Form | None,
    prompts: Tensor,
    options: Decoding = GREEDY,
    *,
    beams: int = 1,
    length_penalty: float = 0.6,
    seed: int = 0,
    batch: int = 64,
) -> Tensor:
    """One item for each prompt, long ``[prompt, time]``, padded with ``form.end``; item i depends on ``(seed, i)`` alone.

    Args:
        model: what predicts the next symbol of an answer, with its form.
        condition: the form of the prompts, a `Tokens`.
        prompts: long ``[prompt, source]``, each padded with its own end.
        options: how symbols are chosen; the most probable one at each step if not said.
        beams: with more than one, a beam search for the most probable item instead: ``options`` without temperature 0.
        length_penalty: of a beam search; larger ones prefer longer items.
        seed: of the draws, where there are any.
        batch: how many are written together.
    """
    form = model.form
    if not isinstance(condition, Tokens) or not isinstance(form, Tokens) or form.end is None:
        raise FormError(f"a model of {form.kind} that reads no prompts", "one that writes texts, each for its prompt")
    order = mask_after_end(prompts, condition.end).sum(dim=1).argsort(stable=True).cpu()
    made = torch.full((len(prompts), form.length), form.end, dtype=torch.int64)
    for rows in order.split(batch):
        asked = prompts[rows.to(prompts.device)]
        if beams > 1:
            law = options.changed(temperature=options.temperature or 1.0)
            found = beam_search(model, len(rows), law, beams=beams, length_penalty=length_penalty, condition=asked)
            x = found.best.cpu()
        else:
            x = generate(model, len(rows), options, ItemNoise(seed, 0, items=rows.tolist()), condition=asked).cpu()
        made[rows] = functional.pad(x, (0, form.length - x.shape[1]), value=form.end)
    return made
