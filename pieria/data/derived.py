"""Data sets that are made from another one of the catalogue: made once into the cache, again when its files change."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from pieria.data import cache
from pieria.data.fingerprint import of_item, of_path
from pieria.data.storage import write_atomically

HEADING = re.compile(r" ?((?:= )+)(.+?)( =)+ ?")
FEWEST, MOST = 12, 150  # words of a paragraph: shorter ones say nothing, and what is behind the last one is cut off


def made(name: str, source: Path) -> Path:
    """The folder of the set that the function ``name`` of this file makes from the folder ``source``."""
    target = cache.folder("sets", "derived", f"{name}-{of_item(of_path(source)).hex()}")

    def make(folder: Path) -> None:
        folder.mkdir()
        MAKERS[name](source, folder)

    return cache.made_once(target, make)


def wikitext_headings(source: Path, folder: Path) -> None:
    """The heading of each section (and the title of each article) from the first paragraph below it."""
    for part, file in (("train", "train.txt"), ("validation", "valid.txt"), ("test", "test.txt")):
        lines = (source / file).read_text(encoding="utf-8").split("\n")
        records = [
            json.dumps({"prompt": paragraph, "completion": heading}, ensure_ascii=False)
            for heading, paragraph in _sections(lines)
        ]
        write_atomically(folder / f"{part}.jsonl", "\n".join(records) + "\n")


def _sections(lines: list[str]) -> Iterator[tuple[str, str]]:
    heading = ""
    for line in lines:
        found = HEADING.fullmatch(line)
        if found:
            heading = found[2].strip()
        elif heading and line.strip():
            words = line.split()
            # a heading whose every word was too rare for the set's vocabulary says nothing
            if len(words) >= FEWEST and set(heading.split()) != {"<unk>"}:
                yield heading, " ".join(words[:MOST])
            heading = ""


MAKERS = {"wikitext_headings": wikitext_headings}
