"""Findings name their figures; one that is not there is refused by its line, and what there is is said."""

import pytest

from bench.errors import BenchError
from bench.findings import Section, filled, sections

SPEEDUP = {"value": 1.8149, "bound": "=", "limit": None, "low": 0.99543, "high": None, "no_interval": None,
           "level": 0.05, "read_multi_epoch": True}  # fmt: skip
BOUND = {**SPEEDUP, "value": None, "limit": 2.137, "bound": ">=", "low": None, "no_interval": "one seed"}


def rung(budget, loss, speedup, multi_epoch=False, unstable=False):
    return {"budget": budget, "mean_loss": loss, "speedup": speedup, "multi_epoch": multi_epoch, "unstable": unstable,
            "size": 2.4321 if multi_epoch else None}  # fmt: skip


SOAP = [
    rung(1.0, 1.71594, SPEEDUP),
    rung(0.5, None, None),
    rung(2.0, 1.6, {**SPEEDUP, "level": 0.025}, True),
    rung(4.0, 1.5, BOUND, True, True),
]
BOARD = {"noise": 0.00967, "tau": None, "reference": "adamw-ref", "ladder": [{"budget": 1.0, "mean_loss": 1.88}],
         "rows": [{"entry": "soap", "of_equal_size": True, "rungs": SOAP},
                  {"entry": "muon", "of_equal_size": False, "rungs": SOAP}],
         "tuning": [{"entry": "soap", "trials": 20, "spent": {"trials": 21}}]}  # fmt: skip
LOST = {"value": 0.0123, "low": -0.0001, "high": 0.02}
TABLE = {"modes": {"ptq-w3": [
    {"entry": "soap", "budget": 1.0, "degradation": LOST, "at_equal_loss": None,
     "at_equal_budget": {**LOST, "low": None}, "speedup": SPEEDUP, "caveats": ["unstable"]},
    {"entry": "adamw-ref", "budget": 1.0, "degradation": LOST, "at_equal_loss": None, "at_equal_budget": None},
]}, "outliers": [
    {"side": side, "low": low, "high": high}
    for side, low, high in [("network", 0.1, 0.9), ("network", -0.9, -0.1), ("network", -0.1, 0.9),
                            ("network", None, None), ("weights", 0.1, 0.9)]
]}  # fmt: skip
TABLES = {"board": BOARD, "table": TABLE}


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("speedup board soap 1x", "1.81× (0.995 to open; reference read multi-epoch)"),
        ("speedup board soap 2x", "1.81× (0.995 to open at 97.5%; multi-epoch)"),
        ("speedup board soap 4x", "at least 2.13× (one seed; multi-epoch; unstable)"),
        ("speedup board muon 2x", "1.81× (0.995 to open at 97.5%; multi-epoch; steps not of equal size)"),
        ("loss board adamw-ref 1x", "1.8800"),
        ("loss  board soap 1x", "1.7159"),
        ("size board soap 2x", "2.43×"),
        ("trials board soap", "20"),
        ("noise board", "0.0097"),
        ("lost table ptq-w3 soap 1x", "+0.0123 (-0.0001 to +0.0200)"),
        ("excess table ptq-w3 soap 1x", "+0.0123"),
        ("left table ptq-w3 soap 1x", "1.81× (0.995 to open; unstable)"),
        ("told table network", "2 of 4"),
    ],
)
def test_a_figure_is_filled_in(named, said):
    assert filled(f"a {{{named}}} b", TABLES) == f"a {said} b"


@pytest.mark.parametrize(
    ("named", "what", "known"),
    [
        ("", "no measure is called ''", "excess, left, loss, lost, noise, size, speedup, tau, told, trials"),
        ("speed board soap 1x", "no measure is called 'speed'", "excess, left"),
        ("speedup board soap", "speedup needs 3 words", "SPEEDUP BOARD ENTRY RUNG"),
        ("speedup other soap 1x", "no file is called 'other'", "board, table"),
        ("speedup board lion 1x", "no entry is called 'lion'", "muon, soap"),
        ("speedup board soap 8x", "no rung is called '8x'", "0.5x, 1x, 2x, 4x"),
        ("speedup board soap 0.5x", "it has no value", ""),
        ("tau board", "it has no value", ""),
        ("size board soap 1x", "it has no value", ""),
        ("trials board muon", "no entry is called 'muon'", "soap"),
        ("told table activations", "no side is called 'activations'", "network, weights"),
        ("told board network", "the file holds no outliers", "noise"),
        ("speedup board adamw-ref 1x", "it has no value", ""),
        ("speedup table soap 1x", "the file holds no rows", "modes, outliers"),
        ("lost table ptq-w4 soap 1x", "no mode is called 'ptq-w4'", "ptq-w3"),
        ("lost table ptq-w3 muon 1x", "no entry is called 'muon'", "adamw-ref, soap"),
        ("excess table ptq-w3 adamw-ref 1x", "it has no value", ""),
    ],
)
def test_a_figure_that_is_not_there_is_refused(named, what, known):
    with pytest.raises(BenchError) as refused:
        filled(f"first\n\nthird {{{named}}}", TABLES)
    assert refused.value.what == f"findings, line 3: {{{named}}}: {what}" and known in (refused.value.hint or "")


@pytest.mark.parametrize("text", ["one {", "} two", "{a {noise board}}"])
def test_a_brace_that_names_no_figure_is_refused(text):
    with pytest.raises(BenchError, match="findings, line 2: a brace stands alone"):
        filled(f"\n{text}", TABLES)


def test_a_text_is_paragraphs_below_headings():
    assert sections("") == ()
    assert sections("before\n\n# One\na\nb\n \nc\n\n\n# Two\n") == (
        Section("", ("before",)), Section("One", ("a b", "c")), Section("Two", ()),
    )  # fmt: skip


@pytest.mark.parametrize("line", ["## Two", "#Two"])
def test_what_is_no_heading_is_refused(line):
    with pytest.raises(BenchError, match=rf"findings, line 3: '{line}': a heading is '# ' and words"):
        filled(f"# One\n\n{line}", TABLES)
