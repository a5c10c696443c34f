"""The method's page says what the code says, and every definition leads to a piece of code that is there."""

import inspect
from importlib import import_module

from bench.pages.method import CHAPTERS, define, method_pages, ten_lines
from bench.score import statistics
from bench.score.cost import Beside


def test_a_definition_is_the_docstring_of_what_computes_the_number():
    found = define("Margin", statistics.margin)
    assert " ".join(found.paragraphs) == " ".join(inspect.getdoc(statistics.margin).split())
    assert found.where == "bench/score/statistics.py, margin" and found.anchor == "margin"


def test_fields_carry_their_meaning():
    fields = dict(define("Beside", Beside).fields)
    assert fields["step"] == "seconds per token over the reference's"


def test_the_interval_is_told_in_ten_lines():
    assert len(ten_lines()) == 10 and ten_lines()[0].startswith("The yardstick")


def test_every_definition_has_a_place_of_its_own_that_exists():
    (page,) = method_pages()
    found = [one for chapter in page.facts["chapters"] for one in chapter.definitions]
    anchors = [one.anchor for one in found] + [chapter.anchor for chapter in page.facts["chapters"]] + ["interval"]
    assert len(anchors) == len(set(anchors)) and len(found) == sum(len(things) for _, things in CHAPTERS)
    for one in found:
        file, _, name = one.where.partition(", ")
        thing = import_module(file.removesuffix(".py").replace("/", "."))
        for part in filter(None, name.split(".")):
            thing = getattr(thing, part)
