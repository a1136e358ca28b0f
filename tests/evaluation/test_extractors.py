"""The networks that look at pictures: which one, its declared weights, and what it saw, kept."""

import hashlib
import os

import numpy as np
import pytest
import torch
from torch import nn

from pieria.data import cache
from pieria.data.fetched import File
from pieria.errors import DataError, UsageError
from pieria.evaluation import evaluate, extractors, inception
from pieria.evaluation.extractors import find, seen, seen_once, shipped
from pieria.forms import Grid
from tests.data.mirror import own_cache  # noqa: F401
from tests.evaluation.small import bag, digits, more_like

FORM = Grid(1, 8, 8, levels=17)


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """Weights of the published shapes and names, at random, as torch writes them."""
    torch.manual_seed(0)
    net = inception.Inception()
    for part in net.modules():
        if isinstance(part, nn.Conv2d):  # as wide after a layer as before it, or all features would be alike
            nn.init.normal_(part.weight, std=(2 / part.weight[0].numel()) ** 0.5)
    state = net.state_dict() | {"Mixed_5b.branch1x1.bn.num_batches_tracked": torch.tensor(3)}
    path = tmp_path_factory.mktemp("mirror") / "features" / "net.pth"
    path.parent.mkdir()
    torch.save(state, path)
    return path


@pytest.fixture
def declared(monkeypatch, weights):
    """The random weights take the place of the published ones; pictures are shown at 75 × 75, which is quick."""
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    monkeypatch.setattr(inception, "PUBLISHED", File("features/net.pth", sha256, "http://127.0.0.1:9/net.pth"))
    monkeypatch.setattr(inception, "SIZE", 75)
    monkeypatch.delenv("PIERIA_DATA", raising=False)
    extractors._inception.cache_clear()
    yield weights, sha256
    extractors._inception.cache_clear()


def test_parts_and_shapes_are_those_of_the_published_file():
    with torch.device("meta"):
        state = inception.Inception().state_dict()
    # convolutions (94), each with four numbers a feature, and the classes
    assert len(state) == 94 * 5 + 2
    assert (
        sum(value.numel() for name, value in state.items() if "running" not in name)
        == 23_834_568 - 1000 * 2049 + 1008 * 2049
    )
    assert state["Mixed_6b.branch7x7dbl_2.conv.weight"].shape == (128, 128, 7, 1)
    assert state["Mixed_7c.branch3x3dbl_3b.conv.weight"].shape == (384, 384, 3, 1)
    assert state["Mixed_6a.branch3x3.bn.running_var"].shape == (384,)
    assert state["fc.weight"].shape == (1008, 2048)


def test_pictures_are_stretched_from_their_upper_left_corner():
    form = Grid(1, 2, 3)
    x = torch.tensor([[[[0, 100, 200], [50, 150, 250]]]])
    shown = (inception.as_shown(x, form) * 128 + 128)[0, 2]
    assert shown.shape == (299, 299)
    assert shown[0, 0] == pytest.approx(0, abs=1e-3)
    # column 100 of 299 lies at 100 · 3 / 299 of the three, and what lies beyond the last centre is the last
    assert shown[0, 100] == pytest.approx(100 + 100 * (300 / 299 - 1), abs=1e-3)
    assert shown[0, 298] == pytest.approx(200, abs=1e-3)
    assert shown[298, 298] == pytest.approx(250, abs=1e-3)
    assert shown[75, 0] == pytest.approx(50 * 150 / 299, abs=1e-3)
    # a picture of 8 bits that is large enough is shown as it is
    whole = torch.randint(0, 256, (1, 3, 299, 299))
    assert torch.allclose(inception.as_shown(whole, Grid(3, 299, 299)) * 128 + 128, whole.float(), atol=1e-3)


def test_weights_other_than_the_declared_are_refused_before_they_are_read(declared, monkeypatch, tmp_path):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "run by the file"),))

    torch.save({"fc.weight": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(DataError, match=r"trap.pth has the SHA-256 .* Wanted: the weights that FID"):
        find(str(tmp_path / "trap.pth"))
    # and even with a hash that was declared by mistake, nothing of it is executed
    sha256 = hashlib.sha256((tmp_path / "trap.pth").read_bytes()).hexdigest()
    monkeypatch.setattr(inception, "PUBLISHED", File("trap.pth", sha256))
    with pytest.raises(Exception, match=r"[Ww]eights"):
        find(str(tmp_path / "trap.pth"))
    assert not (tmp_path / "run by the file").exists()


def test_without_a_network_the_error_says_how_to_give_the_weights(declared, own_cache):  # noqa: F811
    with pytest.raises(DataError) as caught:
        find("inception")
    for said in ("http://127.0.0.1:9/net.pth", "PIERIA_DATA=DIR", "features/net.pth", "--features net.pth"):
        assert said in str(caught.value)
    with pytest.raises(UsageError, match=r"no feature network is called 'inceptoin'. Did you mean 'inception'"):
        find("inceptoin")


def test_weights_are_found_in_a_mirror_and_named_by_their_hash(declared, monkeypatch):
    path, sha256 = declared
    monkeypatch.setenv("PIERIA_DATA", str(path.parents[1]))
    net = find("inception")
    assert net.name == f"inception-2015 {sha256[:8]}"
    assert (net.distance, net.width, net.classes.shape) == ("FID", 2048, (1008, 2048))
    x = more_like(digits(), 3)
    one = seen(net, x, FORM)
    assert one.shape == (3, 2048)
    assert one.std(axis=0).mean() > 1e-3  # it tells pictures apart
    assert np.allclose(one[1:2], seen(net, x[1:2], FORM), atol=1e-4)


def test_a_scorecard_in_inception_features_says_fid_and_never_c_fid(declared, own_cache):  # noqa: F811
    data, path = digits(), declared[0]
    card = evaluate(bag(data, more_like(data, 40)), data, count=10, features=str(path))
    names = [figure.name for figure in card.figures]
    mark = f"(features inception-2015 {declared[1][:8]})"
    for name in ("FID", "KID", "Inception score", "precision", "recall", "density", "coverage"):
        figure = card[f"{name} {mark}"]
        assert figure.count == 10
        assert figure.floor is not None
        assert np.isfinite([figure.value, figure.floor]).all()
    assert not any(name.startswith("C-FID") for name in names)
    assert shipped().name in card["likeness"].note  # what opens a card is the same on every one
    assert any(said.startswith("Pictures: the samples' FID is") for said in card.words)
    table = card.table()
    assert (
        f"In the features of inception-2015 {declared[1][:8]}, and of no other network: FID, KID, Inception score" in table
    )
    assert "FID [" in table
    usual = evaluate(bag(data, more_like(data, 40)), data, count=10)
    assert any(said.startswith("Pictures: the samples' C-FID is") for said in usual.words)
    assert card["likeness"].value == usual["likeness"].value
    assert not any(name.startswith(("FID", "Inception")) for name in (figure.name for figure in usual.figures))


def test_what_was_seen_of_real_pictures_is_kept_and_bit_for_bit_the_same(own_cache, monkeypatch):  # noqa: F811
    x = more_like(digits(), 20)
    first = seen_once(shipped(), x, FORM)
    (kept,) = own_cache.rglob("*.safetensors")
    monkeypatch.setattr(extractors, "_look", None)  # it is not looked at again
    assert np.array_equal(seen_once(shipped(), x, FORM), first)
    monkeypatch.undo()
    monkeypatch.setenv(cache.VARIABLE, str(own_cache))
    assert np.array_equal(first, seen(shipped(), x, FORM))
    # other pictures, and the same numbers read as another form, are looked at
    assert not np.array_equal(seen_once(shipped(), x.flip(0), FORM), first)
    assert not np.array_equal(seen_once(shipped(), x, Grid(1, 8, 8, levels=20)), first)
    assert len(list(own_cache.rglob("*.safetensors"))) == 3
    kept.write_bytes(kept.read_bytes()[:-9])  # damaged: looked at again, and mended
    assert np.array_equal(seen_once(shipped(), x, FORM), first)
    assert kept.stat().st_size > 20 * 96 * 4


def test_kept_features_take_limited_room_and_a_closed_cache_only_costs_time(own_cache, monkeypatch):  # noqa: F811
    x = more_like(digits(), 40)
    monkeypatch.setattr(extractors, "ROOM", 3 * 10 * 96 * 4)
    for start in range(0, 40, 10):
        seen_once(shipped(), x[start : start + 10], FORM)
        newest = max(own_cache.rglob("*.safetensors"), key=lambda file: file.stat().st_mtime)
        os.utime(newest, (start, start))
    assert len(list(own_cache.rglob("*.safetensors"))) == 2  # with their headers, three are more than the room
    blocked = own_cache.parent / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv(cache.VARIABLE, str(blocked))
    assert seen_once(shipped(), x, FORM).shape == (40, 96)


def test_features_are_of_pictures():
    from tests.evaluation.small import ALL

    data = ALL["row"]()
    with pytest.raises(UsageError, match="a model of pictures"):
        evaluate(bag(data, more_like(data, 40)), data, features="inception")
