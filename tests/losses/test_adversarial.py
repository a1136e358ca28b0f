import pytest
import torch
from torch import nn

from pieria.losses import adversarial

GAMES = ["non-saturating", "least-squares", "hinge", "wasserstein"]


@pytest.mark.parametrize("game", GAMES)
def test_telling_them_apart_is_rewarded_and_being_found_out_is_not(game):
    high, low = torch.full((4,), 0.8), torch.full((4,), -0.8)
    assert adversarial.discriminator_loss(game, high, low) < adversarial.discriminator_loss(game, low, high)
    assert adversarial.generator_loss(game, high) < adversarial.generator_loss(game, low)


@pytest.mark.parametrize(
    ("game", "middle"), [("non-saturating", 0), ("least-squares", 0.5), ("hinge", 0), ("wasserstein", 7)]
)
def test_a_discriminator_that_sees_no_difference_gives_the_scores_of_the_boundary(game, middle):
    score = torch.tensor(7.0 if game == "wasserstein" else 0.3, requires_grad=True)
    optimiser = torch.optim.SGD([score], lr=0.1)
    for _ in range(100):
        optimiser.zero_grad()
        adversarial.discriminator_loss(game, score.expand(4), score.expand(4)).backward()
        optimiser.step()
    assert float(score.detach()) == pytest.approx(middle, abs=0.31 if game == "hinge" else 0.01)  # hinge: flat from -1 to 1
    assert float(adversarial.boundary(game, torch.full((4,), 8.0), torch.full((4,), 6.0))) == middle


def critic():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Softplus(), nn.Linear(5, 1)).double()


@pytest.mark.parametrize("kind", ["r1", "gradient"])
def test_the_slope_of_a_penalty_matches_finite_differences(kind):
    network = critic()
    real, fake, share = (torch.randn(6, 3).double(), torch.randn(6, 3).double(), torch.rand(6).double())

    def penalty():
        score = lambda x: network(x)[:, 0]  # noqa: E731
        return adversarial.r1(score, real) if kind == "r1" else adversarial.gradient_penalty(score, real, fake, share)

    weights = list(network.parameters())
    # the last bias does not move any slope
    slopes = torch.autograd.grad(penalty(), weights, allow_unused=True)
    assert slopes[-1] is None or slopes[-1].abs().sum() == 0
    for weight, slope in zip(weights[:3], slopes[:3], strict=True):
        flat = weight.data.view(-1)
        for place in range(0, len(flat), 4):
            before, values = flat[place].item(), []
            for step in (1e-5, -1e-5):
                flat[place] = before + step
                values.append(float(penalty().detach()))
            flat[place] = before
            assert (values[0] - values[1]) / 2e-5 == pytest.approx(float(slope.view(-1)[place]), rel=1e-5, abs=1e-8)


def test_penalties_of_a_linear_critic_are_known():
    weight = torch.tensor([3.0, 4.0])
    real, fake = torch.randn(8, 2), torch.randn(8, 2)
    score = lambda x: x @ weight  # noqa: E731
    assert adversarial.r1(score, real) == pytest.approx(12.5)
    assert adversarial.gradient_penalty(score, real, fake, torch.rand(8)) == pytest.approx(8.0, rel=1e-5)
