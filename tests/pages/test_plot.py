"""Small charts: drawn where the numbers are, gaps left open, text escaped, nothing where there is nothing."""

import re

import pytest

from bench.pages.plot import BOTTOM, LEFT, RIGHT, TOP, WIDTH, Axis, Band, Series, _path, legend, plot

HEIGHT = 250


def paths(svg, kind):
    return re.findall(rf'<path class="{kind}[^"]*" d="([^"]*)"', svg)


def places(path):
    return [tuple(map(float, point.split())) for point in path.lstrip("M").rstrip("Z").split("L")]


def drawn(series, x=None, y=None):
    return plot("t", "d", x or Axis("x"), y or Axis("y"), series, "n", HEIGHT)


def test_a_line_runs_over_the_whole_room_and_higher_values_lie_higher():
    (path,) = paths(drawn([Series("a", [(0, 1.0), (1, 3.0), (2, 2.0)])]), "line")
    (x0, y0), (x1, y1), (x2, y2) = places(path)
    assert LEFT <= x0 < x1 < x2 <= WIDTH - RIGHT and x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert TOP <= y1 < y2 < y0 <= HEIGHT - BOTTOM


def test_equal_ratios_are_equal_lengths_on_a_logarithmic_axis():
    x = Axis("x", log=True)
    (a, _), (b, _), (c, _) = places(paths(drawn([Series("a", [(1, 1.0), (10, 2.0), (100, 3.0)])], x), "line")[0])
    assert b - a == pytest.approx(c - b, abs=0.2)


def test_what_is_missing_is_a_gap():
    lines = paths(drawn([Series("a", [(0, 1.0), (1, 2.0), (2, None), (3, 2.0), (4, 1.0)])]), "line")
    assert [len(places(line)) for line in lines] == [2, 2]


def test_a_point_alone_is_a_dot_and_nothing_is_no_chart():
    assert "dot" in drawn([Series("a", [(1, 1.0)])])
    assert drawn([Series("a", [(1, None)])]) == "" == drawn([])


def test_a_band_lies_between_its_curves():
    (path,) = paths(drawn([Band("b", [(0, 1.0), (1, 1.5)], [(0, 2.0), (1, 3.0)])]), "band")
    (_, low), (_, low_end), (_, high_end), (_, high) = places(path)
    assert high < low and high_end < low_end


@pytest.mark.parametrize("values", [(0.001, 0.0021), (1.0, 1e6), (0.9, 1.1), (5.0, 5.0), (0.0, 0.0)])
def test_every_axis_has_ticks_inside_its_room(values):
    for log in (False, True) if min(values) > 0 else (False,):
        svg = drawn([Series("a", list(enumerate(values)))], y=Axis("y", log=log))
        heights = [float(found) for found in re.findall(rf'class="grid" d="M{LEFT} ([\d.]+)H', svg)]
        assert heights and all(TOP <= height <= HEIGHT - BOTTOM for height in heights)


def test_places_are_written_to_a_tenth_and_whole_ones_without_it():
    assert _path([(1.0, 10.06), (2.25, 30.0), (100.04, 0.5)]) == "1 10.1L2.2 30L100 0.5"


def test_text_is_escaped_and_the_same_arguments_give_the_same_bytes():
    series = [Series("<script>", [(0, 1.0), (1, 2.0)], dots=True)]
    made = plot("<b>", "\"'&", Axis("<x>"), Axis("<y>"), series, "n") + legend(series)
    assert not re.search(r"<(script|b|x|y)>", made)
    assert made == plot("<b>", "\"'&", Axis("<x>"), Axis("<y>"), series, "n") + legend(series)


def test_series_differ_in_shape_as_well_as_in_colour():
    series = [Series(str(i), [(i, 1.0)], "dots", i) for i in range(5)]
    assert len(set(re.findall(r'class="dot (\w+) ', drawn(series)))) == 5
