"""``pieria embed``: vectors of texts, a row each, in the order of the file."""

import csv
import json

import numpy as np
import pytest
from typer.testing import CliRunner

import pieria
from pieria.cli.main import app
from pieria.errors import DataError, UsageError

TEXTS = ["a warm film", "a cold film", "nothing, happens", "warm"] * 8


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    path = tmp_path_factory.mktemp("embed")
    (path / "texts.txt").write_text("\n".join(TEXTS) + "\n\n")
    (path / "texts.csv").write_text("stars,text\n" + "".join(f'{i},"{text}"\n' for i, text in enumerate(TEXTS)) + "9,\n")
    (path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    settings = {"items": "lines", "tokenizer": "word", "width": 16}
    pieria.fit(path / "texts.txt", "bert", preset="tiny", steps=2, out=path / "bert", settings=settings, quiet=True)
    pieria.fit(path / "texts.txt", "ngram", out=path / "ngram", settings={"items": "lines"}, quiet=True)
    return path


def asked(*words):
    return CliRunner().invoke(app, ["embed", *map(str, words)], catch_exceptions=False)


def test_vectors_are_those_of_the_run_in_every_format(home, tmp_path):
    wanted = pieria.load(home / "bert").embed(TEXTS)
    for file in ("texts.txt", "texts.jsonl"):
        done = asked(home / "bert", home / file, "--out", tmp_path / "v.npy", "--batch", 5)
        assert done.stdout == f"{tmp_path / 'v.npy'}\n"
        assert "32 vectors of 16 numbers" in done.stderr
        found = np.load(tmp_path / "v.npy", allow_pickle=False)
        assert found.dtype == np.float32
        assert np.allclose(found, wanted, atol=1e-6)
    done = asked(home / "bert", home / "texts.csv", "--column", "text", "--out", tmp_path / "v.csv", "--batch", 31)
    assert "1 rows without text" in done.stderr
    rows = list(csv.reader((tmp_path / "v.csv").read_text().splitlines()))
    assert rows[0] == ["text", *(f"v{i}" for i in range(1, 17))]
    assert [row[0] for row in rows[1:]] == TEXTS
    assert np.allclose(np.array([row[1:] for row in rows[1:]], dtype=np.float32), wanted, atol=1e-6)
    assert asked(home / "bert", "a warm film").stdout.splitlines()[1].startswith("a warm film,")
    said = json.loads(asked(home / "bert", "a warm film", "--json").stdout)
    assert (said["count"], said["features"], said["items"][0]["text"]) == (1, 16, "a warm film")
    assert "would write 32 vectors of 16" in asked(home / "bert", home / "texts.txt", "--dry-run").stderr


def test_wrong_questions_are_told(home, tmp_path):
    for words, kind, said in (
        ((home / "ngram", home / "texts.txt", "--out", tmp_path / "v.csv"), UsageError, "no vectors of texts.*--model bert"),
        ((home / "bert", home / "texts.txt", "--out", tmp_path / "v.txt"), UsageError, r"ends with \.csv or \.npy"),
        ((home / "bert", home / "texts.csv"), UsageError, "without --column.*stars, text"),
        ((home / "bert", home / "texts.csv", "--column", "txt"), UsageError, "no column 'txt'"),
        ((home / "bert", home / "none.txt"), DataError, "does not exist"),
    ):
        with pytest.raises(kind, match=said):
            asked(*words)
    assert not list(tmp_path.iterdir())
