import re

import pytest
import torch
from PIL import Image

from pieria.explanation.page import Line, Page, chart, film, picture, table, texts
from pieria.explanation.tracing import enlarged


def test_everything_a_user_wrote_is_escaped():
    evil = "<script>alert(1)</script>"
    page = Page(title=evil, lead=evil, facts={evil: evil})
    page.add(evil, table([evil], [[evil]]), texts([evil]), picture(Image.new("L", (2, 2)), evil), film([(evil, "")], evil))
    assert "<script>alert" not in page.html()


def test_a_page_needs_nothing_from_elsewhere():
    page = Page(title="t")
    page.add("s", chart([Line("a", [0, 1], [1, 2])], x="x", y="y"), picture(Image.new("RGB", (3, 3), "red")))
    found = page.html()
    # SVG names its namespaces by address, which nothing fetches
    assert not re.search(r'(src|href)="(?!data:|#)[^"]*"', found.replace('xlink:href="#', 'href="#'))


def test_an_empty_section_and_an_empty_chart_leave_nothing():
    page = Page(title="t")
    page.add("nothing", chart([], x="x", y="y"), film([], "f"))
    assert "nothing" not in page.html()


@pytest.mark.parametrize(("size", "expected"), [((8, 8), (256, 256)), ((28, 14), (252, 126)), ((300, 300), (300, 300))])
def test_small_pictures_are_enlarged_by_whole_factors(size, expected):
    assert enlarged(Image.new("L", size)).size == expected


def test_a_chart_is_the_same_bits_each_time():
    lines = [Line("a", [0, 1, 2], torch.arange(3).tolist())]
    first, second = (re.sub(r'(id|href|clip-path)="[^"]*"', "", chart(lines, x="x", y="y")) for _ in range(2))
    assert first.count("<path") == second.count("<path") > 0
