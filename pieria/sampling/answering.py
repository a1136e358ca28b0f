"""What a model writes for each of many prompts: in batches of like length, in the order in which they were given."""

import torch
from torch import Tensor
from torch.nn import functional

from pieria.data.batch import mask_after_end
from pieria.errors import FormError
from pieria.forms import Form, Tokens
from pieria.noise import ItemNoise
from pieria.sampling.decoding import Decoding, PredictsTokens, generate

GREEDY = Decoding(temperature=0.0)


def answers(
    model: PredictsTokens,
    condition: Form | None,
    prompts: Tensor,
    options: Decoding = GREEDY,
    *,
    seed: int = 0,
    batch: int = 64,
) -> Tensor:
    """One item for each prompt, long ``[prompt, time]``, padded with ``form.end``; item i depends on ``(seed, i)`` alone.

    Args:
        model: what predicts the next symbol of an answer, with its form.
        condition: the form of the prompts, a `Tokens`.
        prompts: long ``[prompt, source]``, each padded with its own end.
        options: how symbols are chosen; the most probable one at each step if not said.
        seed: of the draws, where there are any.
        batch: how many are written together.
    """
    form = model.form
    if not isinstance(condition, Tokens) or not isinstance(form, Tokens) or form.end is None:
        raise FormError(f"a model of {form.kind} that reads no prompts", "one that writes texts, each for its prompt")
    order = mask_after_end(prompts, condition.end).sum(dim=1).argsort(stable=True)
    made = torch.full((len(prompts), form.length), form.end, dtype=torch.int64)
    for rows in order.split(batch):
        noise = ItemNoise(seed, 0, items=rows.tolist())
        x = generate(model, len(rows), options, noise, condition=prompts[rows]).cpu()
        made[rows] = functional.pad(x, (0, form.length - x.shape[1]), value=form.end)
    return made
