"""What the documents show is run: README's commands (their budgets cut), its Python, docstring examples, the examples."""

import doctest
import importlib
import json
import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import pieria

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


COLOURS = (("red", "roter"), ("blue", "blauer"), ("green", "grüner"), ("old", "alter"))
ANIMALS = (("dog", "Hund"), ("fish", "Fisch"), ("bird", "Vogel"), ("bear", "Bär"))


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def modules():
    return sorted(m.name for m in pkgutil.walk_packages(pieria.__path__, "pieria.") if not m.name.endswith("__main__"))


@pytest.mark.parametrize("name", modules())
def test_docstring_examples(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


@pytest.mark.slow
def test_the_five_lines_of_python(tmp_path):
    [code] = blocks("python")
    script = code.replace('time="10s"', 'steps=10, preset="tiny"')
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:pieria", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    assert "likeness" in done.stdout


@pytest.mark.slow
def test_the_commands_of_the_readme(tmp_path):
    """In the README's order, in an empty folder with a table in it; budgets are cut to a few steps."""
    table = ["age,job,hours,income"]
    table += [
        f"{20 + i % 45},{'abc'[i % 3]},{30 + i * 7 % 25},{'high' if i % 45 + (i * 7 % 25) > 40 else 'low'}"
        for i in range(400)
    ]
    (tmp_path / "my-table.csv").write_text("\n".join(table) + "\n")
    names = ("Ada", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hal", "Ida", "Jan")
    talks = [[("user", f"Hello, I am {name}."), ("assistant", f"Good day, {name}!")] for name in names]
    messages = [[{"role": role, "content": content} for role, content in talk] for talk in talks]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in messages))
    pairs = [(f"a {c} {a}", f"ein {d} {b}") for c, d in COLOURS for a, b in ANIMALS] * 12
    lines = [json.dumps({"prompt": a, "completion": b}) + "\n" for a, b in pairs]
    (tmp_path / "pairs.jsonl").write_text("".join(lines))
    (tmp_path / "examples.jsonl").write_text("".join(lines[1:3]))
    (tmp_path / "notes.txt").write_text("".join(f"{a}\n" for a, _ in pairs))
    commands = [line.partition("#")[0].strip() for block in blocks("console") for line in block.splitlines()]
    ran = 0
    for command in commands:
        if not command.startswith("pieria "):
            continue
        words = shlex.split(command)[1:]
        if "--time" in words:
            place = words.index("--time")
            words[place : place + 2] = ["--steps", "5"]
        if words[0] == "fit" and "--out" not in words:
            words += ["--out", "runs/0001-vae-my-table"]
        done = subprocess.run(
            [sys.executable, "-m", "pieria", *words],
            cwd=tmp_path,
            input="Hello, I am Ada.\n",
            capture_output=True,
            text=True,
            check=False,
            env=environment(),
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        ran += 1
    assert ran >= 10
    assert (tmp_path / "synthetic.csv").is_file()


def environment():
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def test_the_readme_names_every_family():
    from pieria import registry

    for name in registry.names():
        assert f"`{name}`" in README, name


DOCUMENTS = sorted(p.relative_to(ROOT).as_posix() for p in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize("document", DOCUMENTS)
def test_what_a_document_takes_in_is_there(document):
    for line in (ROOT / document).read_text(encoding="utf-8").splitlines():
        if line.startswith("--8"):  # a marker that a formatter has torn apart shows as it stands
            found = re.fullmatch(r'--8<-- "([^"]+)"', line)
            assert found, f"{document}: {line}"
            assert "/made/" in found[1] or (ROOT / found[1]).is_file(), f"{document} takes in {found[1]}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_between_documents_lead_somewhere(document):
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#\s]+)\)", path.read_text(encoding="utf-8")):
        if not target.startswith(("http", "mailto", "made/")):
            assert (path.parent / target).exists(), f"{document} links to {target}"
