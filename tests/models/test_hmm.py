"""The hidden Markov model: sums over all paths as enumeration has them, Baum-Welch and Viterbi as hmmlearn has them."""

import copy
import itertools
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hmmlearn.hmm import CategoricalHMM, GaussianHMM
from scipy.stats import multivariate_normal

import pieria
from pieria.data.batch import Batch
from pieria.data.examples import StreamExamples
from pieria.errors import FormError, TrainingError, UsageError
from pieria.forms import Curve, Tokens
from pieria.layers import baum_welch, chains
from pieria.models import hmm
from pieria.models.contract import Estimates, Explains, Hides, Predicts, Scores
from pieria.models.hmm import Hmm, HmmOfNumbers, HmmSettings, NumbersSampling
from pieria.models.weights import load, save
from pieria.noise import ItemNoise
from pieria.sampling.decoding import Decoding, generate

ITEMS = Tokens(vocabulary=4, length=9, end=0)


def data_folder() -> Path:
    for folder in (os.environ.get("PIERIA_DATA"), Path(__file__).parents[2] / ".." / "shared" / "data"):
        if folder and Path(folder).is_dir():
            return Path(folder)
    pytest.skip("no local data: neither PIERIA_DATA nor ../shared/data exists")


def laws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng([seed, *shape]).dirichlet(np.ones(shape[-1]), size=shape[:-1] or None))


def some_items(count: int = 80, seed: int = 0) -> torch.Tensor:
    draw = np.random.default_rng(seed)
    x = torch.zeros(count, 9, dtype=torch.int64)
    for row, length in enumerate(draw.integers(0, 9, count)):
        x[row, :length] = torch.from_numpy(draw.choice([1, 2, 3], size=length, p=[0.6, 0.3, 0.1]))
    return x


def at_random(form: Tokens = ITEMS, states: int = 3, **settings: object) -> Hmm:
    model = Hmm(HmmSettings.of({"states": states, **settings}), form)
    model.first.copy_(laws(states))
    model.moves.copy_(laws(states, states))
    model.emission.copy_(laws(states, form.vocabulary))
    return model


def regimes(count: int = 300, seed: int = 0, outputs: int = 1) -> torch.Tensor:
    """A series that stays low or high for a while; some steps have no point."""
    return regimes_and_states(count, seed, outputs)[0]


def regimes_and_states(count: int, seed: int = 0, outputs: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    draw = np.random.default_rng(seed)
    state, rows, states = 0, [], []
    for t in range(count):
        state = state if draw.random() < 0.95 else 1 - state
        if draw.random() < 0.9:
            rows.append([t, *(4.0 * state + draw.normal(size=outputs) * (0.5 + state))])
            states.append(state)
    return torch.tensor(rows, dtype=torch.float64), torch.tensor(states)


def of_numbers(curves: list[torch.Tensor], **settings: object) -> HmmOfNumbers:
    model = Hmm(HmmSettings.of({"states": 2, "restarts": 2, **settings}), Curve(1, curves[0].shape[1] - 1))
    assert isinstance(model, HmmOfNumbers)
    model.estimate(lambda: [Batch(curve[None]) for curve in curves])
    return model


def enumerated(first: torch.Tensor, moves: torch.Tensor, odds: torch.Tensor) -> float:
    """The sum over every path, one by one; ``odds`` ``[time, state]`` are probabilities."""
    total = 0.0
    for path in itertools.product(range(len(first)), repeat=len(odds)):
        p = float(first[path[0]])
        for t, state in enumerate(path):
            p *= float(odds[t, state]) * (float(moves[path[t - 1], state]) if t else 1.0)
        total += p
    return total


# ---- sums over paths -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("states", [1, 2, 4])
def test_the_likelihood_is_the_sum_over_all_paths(states: int) -> None:
    model = at_random(states=states)
    for row in some_items(12):
        length = min(int((row != 0).sum()) + 1, 6)
        x = row[:length]
        wanted = enumerated(model.first, model.moves, model.emission.T[x])
        got = float(model.log_prob(Batch(x[None])).exp())
        assert got == pytest.approx(wanted, rel=1e-10)


def test_posterior_and_best_path_are_those_of_enumeration() -> None:
    model, x = at_random(), torch.tensor([[1, 3, 2, 1, 1]])
    odds, joint = model.emission.T[x[0]], {}
    for path in itertools.product(range(3), repeat=5):
        p = float(model.first[path[0]])
        for t, state in enumerate(path):
            p *= float(odds[t, state]) * (float(model.moves[path[t - 1], state]) if t else 1.0)
        joint[path] = p
    batch = Batch(x, mask=torch.ones_like(x, dtype=torch.bool))
    assert tuple(model.states(batch)[0].tolist()) == max(joint, key=lambda path: joint[path])
    wanted = torch.tensor(
        [[sum(p for path, p in joint.items() if path[t] == k) for k in range(3)] for t in range(5)], dtype=torch.float64
    ) / sum(joint.values())
    torch.testing.assert_close(model.posterior(batch)[0], wanted, rtol=1e-10, atol=1e-12)


def test_items_of_different_lengths_are_decoded_as_each_alone() -> None:
    model, x = at_random(), some_items(20)
    together = model.states(Batch(x))
    for row, path in zip(x, together, strict=True):
        length = int((row != 0).sum()) + 1
        assert torch.equal(model.states(Batch(row[None, :length]))[0], path[:length])
        assert not path[length:].any()
    posterior = model.posterior(Batch(x))
    real = (torch.arange(9) <= (x != 0).sum(dim=1, keepdim=True)).double()
    torch.testing.assert_close(posterior.sum(dim=2), real)


def test_the_casino_is_decoded_as_hmmlearn_does() -> None:
    # fair and loaded dice, as in hmmlearn's example of the dishonest casino
    theirs = CategoricalHMM(2, random_state=99)
    theirs.startprob_ = np.array([1.0, 0.0])
    theirs.transmat_ = np.array([[0.95, 0.05], [0.1, 0.9]])
    theirs.emissionprob_ = np.vstack([np.full(6, 1 / 6), [0.1, 0.1, 0.1, 0.1, 0.1, 0.5]])
    rolls, _ = theirs.sample(30_000, random_state=99)
    model = Hmm(HmmSettings(states=2), Tokens(6, 30_000))
    for buffer, value in zip(
        (model.first, model.moves, model.emission), (theirs.startprob_, theirs.transmat_, theirs.emissionprob_), strict=True
    ):
        buffer.copy_(torch.from_numpy(value))
    few = torch.from_numpy(rolls[:3000].T)
    assert isinstance(model, Hides)
    np.testing.assert_array_equal(model.states(Batch(few))[0].numpy(), theirs.predict(rolls[:3000]))
    np.testing.assert_allclose(model.posterior(Batch(few))[0].numpy(), theirs.predict_proba(rolls[:3000]), atol=1e-9)
    assert float(model.log_prob(Batch(few))) == pytest.approx(theirs.score(rolls[:3000]), rel=1e-12)


# ---- learning --------------------------------------------------------------------------------------------------------


def test_every_step_of_learning_is_hmmlearns() -> None:
    x = some_items(60)
    lengths = ((x != 0).sum(dim=1) + 1).clamp(max=9).tolist()
    flat = np.concatenate([row[:length].numpy() for row, length in zip(x, lengths, strict=True)])[:, None]
    theirs = CategoricalHMM(3, n_iter=12, tol=-np.inf, init_params="", implementation="scaling")
    model = at_random(smoothing=0)
    theirs.n_features = 4
    theirs.startprob_, theirs.transmat_ = model.first.numpy().copy(), model.moves.numpy().copy()
    theirs.emissionprob_ = model.emission.numpy().copy()
    theirs.fit(flat, lengths)
    data = model.gathered(lambda: [Batch(x[:20]), Batch(x[20:])])
    ours = [model.improve(data) for _ in range(12)]
    np.testing.assert_allclose(np.array(ours) / len(flat), np.array(theirs.monitor_.history) / len(flat), atol=1e-10)
    np.testing.assert_allclose(model.emission.numpy(), theirs.emissionprob_, atol=1e-8)


@pytest.mark.parametrize(("covariance", "theirs"), [("diagonal", "diag"), ("full", "full")])
@pytest.mark.parametrize("curves", [1, 4])
def test_every_step_of_learning_numbers_is_hmmlearns(covariance: str, theirs: str, curves: int) -> None:
    draw = np.random.default_rng(3)
    each = [regimes(60 - 7 * n, seed=n, outputs=2)[:, 1:] for n in range(curves)]
    each = [torch.cat([torch.arange(len(y), dtype=torch.float64)[:, None], y], dim=1) for y in each]
    model = Hmm(HmmSettings(states=3, covariance=covariance, smoothing=0, extra=0), Curve(1, 2))
    assert isinstance(model, HmmOfNumbers)
    data = model.gathered(lambda: [Batch(curve[None]) for curve in each])
    flat = np.concatenate([curve[:, 1:].numpy() for curve in each])
    peer = GaussianHMM(3, theirs, n_iter=10, tol=-np.inf, init_params="", covars_prior=0, covars_weight=1)
    model.first.copy_(laws(3))
    model.moves.copy_(laws(3, 3))
    model.gaussians.mean.copy_(torch.from_numpy(flat[draw.choice(len(flat), 3, replace=False)])[:, None])
    peer.startprob_, peer.transmat_ = model.first.numpy().copy(), model.moves.numpy().copy()
    peer.means_ = model.gaussians.mean[:, 0].numpy().copy()
    peer.covars_ = np.ones((3, 2)) if theirs == "diag" else np.tile(np.eye(2), (3, 1, 1))
    peer.fit(flat, [len(curve) for curve in each])
    ours = [model.improve(data) for _ in range(peer.n_iter)]
    np.testing.assert_allclose(ours, peer.monitor_.history, rtol=1e-9)


def test_sequences_joined_by_their_beginnings_count_as_each_by_itself() -> None:
    x = some_items(50)
    lengths = np.minimum((x != 0).sum(dim=1).numpy() + 1, 9)
    flat = np.concatenate([row[:length].numpy() for row, length in zip(x, lengths, strict=True)])
    model = at_random()
    found = []
    for alike in (True, False):
        heard = torch.zeros(4, 3, dtype=torch.float64)

        def hear(level: baum_welch.Level, counts: torch.Tensor, heard: torch.Tensor = heard) -> None:
            heard.index_add_(0, level.seen, counts)

        levels = baum_welch.grown(flat, lengths, alike=alike)
        found.append(
            (levels, [*baum_welch.expected(levels, model.first, model.moves, model.emission.T.contiguous(), hear), heard])
        )
    assert sum(len(level.seen) for level in found[0][0]) < len(flat) == sum(len(level.seen) for level in found[1][0])
    for joined, each in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(torch.as_tensor(joined), torch.as_tensor(each), rtol=1e-12, atol=1e-12)
    assert float(found[0][1][3].sum()) == pytest.approx(len(flat))


@pytest.mark.parametrize("time", [1, 2, 3, 50, 101])
def test_one_long_sequence_in_pieces_is_as_in_one(time: int) -> None:
    first, moves, seen = laws(3), laws(3, 3), laws(time, 3, seed=5) ** 3
    answers = torch.empty(time, 3, dtype=torch.float64)
    levels = baum_welch.grown(np.arange(time), np.array([time]), alike=False)
    nats, _, counts = baum_welch.expected(
        levels, first, moves, seen, lambda level, law: answers.index_copy_(0, level.seen, law)
    )
    other = baum_welch.expected_along(first, moves, seen.log())
    assert other[0] == pytest.approx(nats, rel=1e-12)
    torch.testing.assert_close(other[1], answers, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(other[2], counts, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(chains.smoothed(first, moves, seen.log()[None])[0], answers, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.5])
def test_learning_never_goes_down_and_keeps_the_best_start(smoothing: float) -> None:
    model = Hmm(HmmSettings(states=3, smoothing=smoothing, restarts=4, iterations=40, tolerance=0), ITEMS)
    batches = [Batch(some_items())]
    assert isinstance(model, Estimates)
    model.estimate(batches.copy)
    rises = np.diff(model.history)
    assert (rises > -1e-8).all()
    alone = []
    for start in range(4):
        data = model.gathered(batches.copy)
        model.begin(data, start)
        model.history = []
        model._climb(data, baum_welch.TRIAL)
        alone.append(model.history[-1])
    again = Hmm(model.settings, ITEMS)
    again.estimate(batches.copy)
    assert again.history == pytest.approx(model.history if len(model.history) > 40 else again.history)
    assert again.history[baum_welch.TRIAL - 1] == pytest.approx(max(alone))


@pytest.mark.parametrize("settings", [{}, {"emission": "mixture", "components": 2}, {"covariance": "full"}])
def test_learning_numbers_never_goes_down(settings: dict[str, object]) -> None:
    for curves in ([regimes(outputs=2)], [regimes(60, n, outputs=2) for n in range(3)]):
        model = of_numbers(curves, iterations=30, tolerance=0, **settings)
        assert (np.diff(model.history) > -1e-7).all()


def test_blocks_bound_the_memory_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = [Batch(some_items())]
    found = []
    for room in (1 << 24, 90):
        monkeypatch.setattr(hmm, "AT_ONCE", room)
        model = at_random()
        data = model.gathered(batches.copy)
        found.append((len(data.blocks), model.improve(data), model.emission.clone()))
    assert found[0][0] == 1 < found[1][0]
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-12)
    torch.testing.assert_close(found[0][2], found[1][2])


def test_a_stream_is_learned_whatever_its_windows() -> None:
    draw = np.random.default_rng(0)
    stream = np.where(np.arange(6000) // 40 % 2 == 0, draw.choice(3, 6000, p=[0.8, 0.1, 0.1]), draw.choice([1, 2], 6000))
    models = []
    for size, length in ((7, 33), (64, 100)):
        model = Hmm(HmmSettings(states=2, initial="sticky", restarts=2), Tokens(3, length))
        examples = StreamExamples(model.form, stream)
        model.estimate(lambda examples=examples, size=size: examples.sweep(size, context=10))
        models.append(model)
    torch.testing.assert_close(models[0].emission, models[1].emission)
    emission = models[0].emission[models[0].emission[:, 0].argsort()]
    torch.testing.assert_close(emission[1], torch.tensor([0.8, 0.1, 0.1], dtype=torch.float64), atol=0.06, rtol=0)
    assert float(models[0].moves.diagonal().min()) > 0.9
    assert models[0].reach == 512


def test_only_so_many_symbols_are_learned_from() -> None:
    model = Hmm(HmmSettings(states=2, most=50), ITEMS)
    assert 20 < model.gathered(lambda: [Batch(some_items(100))]).total <= 60


# ---- what comes next -------------------------------------------------------------------------------------------------


def test_reading_step_by_step_is_reading_at_once() -> None:
    model = at_random()
    assert isinstance(model, Predicts)
    draw = np.random.default_rng(1)
    read = torch.from_numpy(draw.integers(0, 4, (5, 40)))
    read[:, 0] = ITEMS.begin
    whole, state = model.logits(read), model.start(5)
    place = 0
    while place < 40:
        k = int(draw.integers(1, 5))
        logits, state = model.step(read[:, place : place + k], state)
        place = min(place + k, 40)
        torch.testing.assert_close(logits, whole[:, place - 1], rtol=0, atol=1e-10)
    kept = copy.deepcopy(state)
    model.step(read[:, 1:3], state)
    torch.testing.assert_close(kept, state)
    torch.testing.assert_close(whole.exp().sum(dim=-1), torch.ones(5, 40, dtype=torch.float64))


def test_an_impossible_symbol_has_no_probability_and_what_follows_has_some() -> None:
    model = at_random(Tokens(4, 6))
    model.emission[:, 2] = 0
    odds = model.symbol_log_prob(Batch(torch.tensor([[1, 2, 1, 3, 0, 1]])))[0]
    assert math.isinf(float(odds[1]))
    assert torch.isfinite(odds[[0, 2, 3, 4, 5]]).all()


def test_prompts_options_and_traces_go_through_the_shared_decoder(tmp_path: Path) -> None:
    model = Hmm(HmmSettings(states=3, restarts=2), ITEMS)
    model.estimate(lambda: [Batch(some_items())])
    assert isinstance(model, Explains)
    made = generate(model, 3, Decoding(top_k=2), ItemNoise(0, 3), prompt=torch.tensor([1, 2]))
    assert made.shape == (3, 7)
    steps = list(model.trace(Decoding(), ItemNoise(4, 1)))
    assert torch.equal(steps[-1].x, model.sample(1, Decoding(), ItemNoise(4, 1)))
    assert steps[0].data["state"].shape == (3,)
    assert [len(step.data["path"]) for step in steps] == list(range(1, len(steps) + 1))
    save(model, tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    assert torch.equal(again.logits(some_items()), model.logits(some_items()))


# ---- numbers ---------------------------------------------------------------------------------------------------------


def test_later_points_are_scored_given_those_that_were_learned() -> None:
    series = torch.tensor([[0, 0.2], [1, 0.1], [3, 3.0]], dtype=torch.float64)  # step 2 has no point
    model = of_numbers([series], iterations=3, smoothing=0.5)
    assert float(model.gap) == 1

    def joint(points: dict[int, list[float]], low: int, high: int) -> float:
        odds = torch.ones(high - low + 1, 2, dtype=torch.float64)
        for step, values in points.items():
            for value in values:
                for k in range(2):
                    mean, width = float(model.gaussians.mean[k, 0, 0]), float(model.gaussians.root[k, 0, 0, 0])
                    odds[step - low, k] *= multivariate_normal.pdf(value, mean, width**2)
        return enumerated(model.first, model.moves, odds)

    known = {0: [0.2], 1: [0.1], 3: [3.0]}
    for asked in ([(2, 1.0)], [(5, 2.0), (4, 0.0)], [(1, 0.4), (2, 2.5), (2, 2.0), (4, 0.3)], [(-1, 0.0), (2, 1.0)]):
        item = torch.tensor([asked], dtype=torch.float64)
        both = {step: list(values) for step, values in known.items()}
        for step, value in asked:
            both.setdefault(step, []).append(value)
        low, high = min(both), max(*both, 3)
        wanted = math.log(joint(both, low, high) / joint(known, low, high))
        assert float(model.log_prob(Batch(item))) == pytest.approx(wanted, rel=1e-9, abs=1e-9)


def test_several_curves_are_each_on_their_own() -> None:
    curves = [regimes(80, seed=n) for n in range(4)]
    model = of_numbers(curves)
    assert isinstance(model, Scores)
    assert len(model.points) == 0
    moved = curves[0] + torch.tensor([1000.0, 0.0], dtype=torch.float64)
    mixed = moved[torch.randperm(len(moved), generator=torch.Generator().manual_seed(0))]
    item = torch.stack([curves[0], moved, mixed])
    each = model.log_prob(Batch(item))
    torch.testing.assert_close(each, each[:1].expand(3))
    states = model.states(Batch(item))
    assert torch.equal(states[0], states[1])
    padded = torch.cat([curves[1], curves[1][-1:].expand(5, -1)])[None]
    mask = (torch.arange(padded.shape[1]) < len(curves[1]))[None]
    torch.testing.assert_close(model.log_prob(Batch(padded, mask=mask)), model.log_prob(Batch(curves[1][None])))
    assert model.posterior(Batch(padded, mask=mask))[0, -5:].sum() == 0


def test_regimes_are_found_and_forecast() -> None:
    series, truth = regimes_and_states(400)
    model = of_numbers([series[:300]])
    low = int(model.gaussians.mean[:, 0, 0].argmin())
    assert float(model.gaussians.mean[low]) == pytest.approx(0, abs=0.3)
    assert float(model.gaussians.root[low]) == pytest.approx(0.5, abs=0.15)
    found = model.states(Batch(series[None, :300]))[0]
    assert float(((found != low) == (truth[:300] == 1)).double().mean()) > 0.97
    soon, late = (torch.tensor([[series[299, 0] + after]]) for after in (1.0, 3000.0))
    drawn = [model.sample(4000, NumbersSampling(), ItemNoise(0, 4000), where)[:, 0, 1] for where in (soon, late)]
    state = found[-1] != low
    assert float(((drawn[0] > 2) == state).double().mean()) > 0.85  # it stays as it is for a while
    assert abs(float((drawn[1] > 2).double().mean()) - 0.5) < 0.25  # and then who knows
    fresh = model.sample(2, NumbersSampling(posterior=False, points=50, start=0), ItemNoise(0, 2))
    assert fresh.shape == (2, 50, 2)
    steps = list(model.trace(NumbersSampling(points=20), ItemNoise(0, 1)))
    assert torch.equal(steps[-1].x, model.sample(1, NumbersSampling(points=20), ItemNoise(0, 1)))
    assert not isinstance(model, Predicts)
    assert model.holds_data


# ---- refusals, and the way through a run -----------------------------------------------------------------------------


def test_what_cannot_be_is_refused_in_words() -> None:
    with pytest.raises(UsageError, match="categorical"):
        Hmm(HmmSettings(emission="gaussian"), ITEMS)
    with pytest.raises(UsageError, match="mixture"):
        Hmm(HmmSettings(emission="categorical"), Curve())
    with pytest.raises(FormError, match="one direction"):
        Hmm(HmmSettings(), Curve(2, 1))
    with pytest.raises(FormError, match="at most 9"):
        at_random().log_prob(Batch(torch.ones(1, 10, dtype=torch.int64)))
    with pytest.raises(TrainingError, match="no symbols"):
        at_random().estimate(list)
    model = of_numbers([regimes()])
    with pytest.raises(FormError, match="Ask nearer"):
        model.log_prob(Batch(torch.tensor([[[1e9, 0.0]]], dtype=torch.float64)))
    with pytest.raises(FormError, match="NaN"):
        model.sample(1, NumbersSampling(), ItemNoise(0, 1), torch.tensor([[math.nan]]))
    with pytest.raises(UsageError, match="after stop"):
        model.sample(1, NumbersSampling(start=2, stop=1), ItemNoise(0, 1))


def test_a_run_tells_the_states_behind_its_items(tmp_path: Path) -> None:
    words = (data_folder() / "text" / "names" / "names.txt").read_text().split()[::8]
    (tmp_path / "names.txt").write_text("\n".join(words) + "\n")
    run = pieria.fit(
        tmp_path / "names.txt",
        "hmm",
        out=tmp_path / "run",
        quiet=True,
        settings={"states": 2, "restarts": 3, "iterations": 60},
    )
    paths = run.states(["anna", "oliver"])
    assert [len(path) for path in paths] == [4, 6]
    assert paths[0][0] == paths[0][3] != paths[0][1] == paths[0][2]  # vowels and consonants, which nobody told it of
    odds = run.states(["anna"], posterior=True)[0]
    assert odds.shape == (4, 2)
    torch.testing.assert_close(odds.sum(dim=1), torch.ones(4, dtype=torch.float64))
    counter = pieria.fit(tmp_path / "names.txt", "ngram", out=tmp_path / "ngram", quiet=True)
    with pytest.raises(UsageError, match="no hidden states"):
        counter.states(["anna"])


def test_a_stream_and_a_series_have_one_path_each(tmp_path: Path) -> None:
    text = "It was the best of times, it was the worst of times.\n" * 40
    (tmp_path / "prose.txt").write_text(text)
    run = pieria.fit(
        tmp_path / "prose.txt", "hmm", preset="tiny", out=tmp_path / "run", settings={"items": "stream"}, quiet=True
    )
    assert [len(path) for path in run.states([text[:300]])] == [300]
    rows = "\n".join(f"{t:g},{y:.3f}" for t, y in regimes(200).tolist())
    (tmp_path / "series.csv").write_text(f"t,y\n{rows}\n")
    run = pieria.fit(tmp_path / "series.csv", "hmm", preset="regimes", as_="series", out=tmp_path / "series", quiet=True)
    [path] = run.states(tmp_path / "series.csv")
    assert len(path) == len(rows.splitlines())
    assert len(set(path)) > 1
