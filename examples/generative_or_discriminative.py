"""A discriminative and a generative model of the same digits: both can say which digit it is, one can also make new ones.

The generative classifier is Bayes' rule over one mixture for each digit.
Run it: ``python examples/generative_or_discriminative.py``
"""

from pathlib import Path

import torch
from sklearn.linear_model import LogisticRegression

from pieria import registry
from pieria.data.examples import ItemExamples
from pieria.modalities.opening import open_data
from pieria.models.contract import Model
from pieria.noise import ItemNoise
from pieria.training.loop import learn
from pieria.training.plan import Plan

data = open_data("digits")
train, test = (data.examples(part).batch(range(len(data.parts[part].artifacts))) for part in ("train", "test"))
assert train.condition is not None
assert test.condition is not None

# discriminative: p(label | picture), learned directly
classifier = LogisticRegression(max_iter=2000).fit(train.x.flatten(1).float() / 16, train.condition)
right = classifier.score(test.x.flatten(1).float() / 16, test.condition)
print(f"logistic regression: {right:.1%} of the test digits told apart; it can draw none")

# generative: p(picture | label) for each label, and Bayes' rule for the label
family = registry.find("mixture")
makers: list[Model] = []
for digit in range(10):
    maker = family(family.Settings.of({"components": 8}), data.form)
    learn(maker, ItemExamples(data.form, train.x[train.condition == digit]), None, Plan(seed=0))
    makers.append(maker)
log_prior = torch.bincount(train.condition, minlength=10).double().log()
log_odds = torch.stack([maker.log_prob(test) for maker in makers], dim=1) + log_prior  # type: ignore[operator]  # this Model scores
right = (log_odds.argmax(dim=1) == test.condition).double().mean()
print(f"a mixture for each digit: {right:.1%} told apart, and here are ten that nobody wrote:")

drawn = [maker.sample(1, maker.Sampling(), ItemNoise(seed=digit, size=1)) for digit, maker in enumerate(makers)]
picture = data.modality.preview(data.modality.decode(torch.cat(drawn)), Path("ten-new-digits.png"))
print(picture)
