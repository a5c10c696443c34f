"""Digests of code: what runs is in them, what explains is not."""

import pytest

from bench.digest import canonical, code_without_prose, digest_of_sources
from bench.entry import Entry
from bench.errors import BenchError

PLAIN = 'def f(x):\n    y = f"{x:>{3}} # no comment"\n    return y\n'
PROSE = (
    '"""What it is.\n\nAt length."""\n\n# a reason\ndef f(x):  # why\n    """A fact."""\n\n'
    '    y = f"{x:>{3}} # no comment"  # a source\n    return y\n'
)


def test_comments_docstrings_and_blank_lines_are_left_out_and_strings_are_not():
    assert code_without_prose(PROSE) == code_without_prose(PLAIN) == PLAIN.rstrip()
    assert code_without_prose(PLAIN.replace("no comment", "another")) != code_without_prose(PLAIN)


BESIDE = {  # code that differs in a number alone
    "after a docstring": '"""A fact."""; FACTOR = {}\n',
    "after a docstring of two bytes a letter": '"""\u00e9\u00e9"""; FACTOR = {}\n',
    "behind a definition": 'def f(): "A fact."; return {}\n',
    "beside what only str.splitlines takes for ends of lines":
        'A = "\x0c\u2028"; B = {}\ndef f():\n    """A fact."""\n',
}  # fmt: skip


@pytest.mark.parametrize("where", BESIDE)
def test_all_code_is_in_the_digest(where):
    two, nine = BESIDE[where].format(2), BESIDE[where].format(9)
    assert code_without_prose(two) != code_without_prose(nine)
    assert code_without_prose(two.replace("\n", "\r\n")) == code_without_prose(two)


def test_blanks_within_a_string_are_in_the_digest():
    text = 'A = """a\nb"""\n'
    assert len({code_without_prose(text.replace("a", each)) for each in ("a", "a ", "a\n", "a\n\n", "a\n ")}) == 5


def test_a_docstring_on_the_line_of_its_code_is_left_out_alone():
    assert code_without_prose('class A(Exception): """\u00e9."""  # why\n') == "class A(Exception):"
    assert code_without_prose('def f():\n    ("A fact, "\n     "at length."); return 2\n') == "def f():\n    ; return 2"


def test_a_source_that_another_codec_would_read_as_other_code_is_refused(tmp_path):
    (tmp_path / "a.py").write_text("# coding: utf-7\n# +AAo-FACTOR=9\n")
    with pytest.raises(BenchError, match="declares the encoding utf-7, expected UTF-8"):
        digest_of_sources([tmp_path / "a.py"])
    (tmp_path / "b.py").write_text("# coding: utf8\nFACTOR = 9\n")
    assert digest_of_sources([tmp_path / "b.py"])


def test_a_changed_operator_changes_the_digest(tmp_path):
    (tmp_path / "a.py").write_text("x = 1 + 2\n")
    (tmp_path / "b.py").write_text("x = 1 - 2\n")
    a, b = (digest_of_sources({"same": tmp_path / name}) for name in ("a.py", "b.py"))
    assert a != b


def test_a_file_that_is_no_python_is_named(tmp_path):
    (tmp_path / "bad.py").write_text("def (:\n")
    with pytest.raises(BenchError, match=r"bad\.py: not readable as Python"):
        digest_of_sources([tmp_path / "bad.py"])


def test_nan_has_no_canonical_text():
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical({"loss": float("nan")})


CODE = """from dataclasses import dataclass
{imports}

@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    pass


def build(roles, hp, run):
    return []
"""
TOML = """title = "Toy"
family = "element-wise"
paper = "none"
authors = ["nobody"]
scope = "mixed"
[schedule]
kind = "decay"
warmup_fraction = 0.1
"""


def entry(folder, imports: str) -> Entry:
    (folder / "optimizer.py").write_text(CODE.format(imports=imports))
    (folder / "toy.toml").write_text(TOML)
    return Entry(folder / "toy.toml")


@pytest.mark.parametrize(
    "imports",
    ["import bench.linalg.newton_schulz as ns", "from bench.linalg.newton_schulz import newton_schulz",
     "from bench.linalg import newton_schulz", "def late():\n    import bench.linalg.newton_schulz"],
)  # fmt: skip
def test_however_shared_mathematics_is_imported_it_is_in_the_digest(tmp_path, imports):
    assert "bench.linalg.newton_schulz" in entry(tmp_path, imports).sources


def test_the_version_of_a_library_that_an_entry_builds_on_is_in_the_digest(tmp_path, monkeypatch):
    toy = entry(tmp_path, "import math\nimport torch\nimport scipy.linalg")
    assert set(toy.libraries) == {"scipy"}
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.0.1")
    assert entry(tmp_path, "import math\nimport torch\nimport scipy.linalg").libraries == {"scipy": "0.0.1"}


def test_a_relative_import_is_refused_since_its_source_would_not_be_in_the_digest(tmp_path):
    with pytest.raises(BenchError, match="relative imports are not followed"):
        entry(tmp_path, "from . import other").digest  # noqa: B018
