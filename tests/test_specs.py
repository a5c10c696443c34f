"""Strict reading: a mistake in a file is one clear line that names the place; nothing else is ever raised."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.domains import expected
from bench.entry import Entry, Facts
from bench.errors import BenchError
from bench.overrides import read_values
from bench.record import Log, Record, read_record
from bench.spec import read_json, read_toml
from bench.task import Task, expand_range, parse_rung, read_task

ROOT = Path(__file__).parents[1]
NANO = ROOT / "tasks" / "nano.toml"
TASKS = sorted((ROOT / "tasks").glob("*.toml"))

MISTAKES = {
    "an unknown key": (
        "batch_sequences          = 8\nmicro",
        "batch_sequence = 8\nmicro",
        "unknown key training.batch_sequence; did you mean batch_seq",
    ),
    "a missing key": ("layers            = 4\n", "", "missing key model.layers"),
    "a wrong type": (
        "layers            = 4",
        'layers = "four"',
        "model.layers: input should be a valid integer, got 'four'",
    ),
    "a number out of range": (
        "threads                  = 1",
        "threads = 0",
        "training.threads: input should be greater",
    ),
    "an impossible shape": ("heads             = 2", "heads = 3", "width 128 is not a multiple of heads 3"),
    "too small a vocabulary": ("padded_vocabulary = 320", "padded_vocabulary = 100", "is less than vocabulary 257"),
    "a budget of half a step": ("tokens = 1_024_000", "tokens = 1_024_001", "not a whole number of batches"),
    "a ladder that falls": ("[0.25, 0.5,", "[0.5, 0.25,", "rungs must rise"),
    "a batch that does not divide": ("micro_batch_sequences    = 8", "micro_batch_sequences = 3", "not a multiple of"),
    "an unknown kind": ('kind      = "hub"', 'kind = "hbu"', "data"),
    "no documents": ("last  = 800", "last  = 0", "data"),
    "not TOML": ("[model]", "[model", "not valid TOML"),
    "an infinite number": ("clip                     = 1.0", "clip = inf", "training.clip is no finite number"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_in_a_task_is_named_with_its_place(tmp_path, what):
    old, new, message = MISTAKES[what]
    text = NANO.read_text()
    assert text.count(old) == 1, old
    path = tmp_path / "task.toml"
    path.write_text(text.replace(old, new))
    with pytest.raises(BenchError) as caught:
        read_task(path)
    assert str(path) in str(caught.value) and message in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2


def test_a_missing_file_names_its_neighbour():
    with pytest.raises(BenchError, match=r"nanoo\.toml: no such file; did you mean nano\.toml\?"):
        read_task(ROOT / "tasks" / "nanoo.toml")


@pytest.mark.parametrize("path", TASKS, ids=lambda path: path.stem)
def test_every_task_loads_and_every_rung_has_its_name(path):
    task = read_task(path)
    for rung in task.budget.rungs:
        assert parse_rung(f"{rung:g}x", task, "here") == rung
        assert task.steps(rung) * task.training.batch_tokens == task.tokens(rung)
    with pytest.raises(BenchError, match=r"no budget 3\.3x"):
        parse_rung("3.3x", task, "here")


def test_a_task_s_digest_moves_with_a_fact_and_not_with_prose_or_a_longer_ladder(tmp_path):
    text, path = NANO.read_text(), tmp_path / "nano.toml"
    digests = {}
    for name, (old, new) in {
        "same": ("", ""),
        "prose": ("a rehearsal of the protocol", "a rehearsal"),
        "ladder": ("8.0, 16.0]", "8.0, 16.0, 32.0]"),
        "fact": ("clip                     = 1.0", "clip = 0.9"),
    }.items():
        path.write_text(text.replace(old, new) if old else text)
        digests[name] = read_task(path).digest
    assert digests["same"] == digests["prose"] == digests["ladder"] != digests["fact"]


def test_a_task_with_another_batch_is_another_task_of_the_same_tokens():
    task = read_task(ROOT / "tasks/nano.toml")
    half, double = task.with_batch(0.5, 1.0), task.with_batch(2.0, 1.0)
    assert [t.training.batch_sequences for t in (half, task, double)] == [4, 8, 16]
    assert len({t.digest for t in (half, task, double)}) == 3 and task.with_batch(1.0, 1.0).digest == task.digest
    assert [t.steps(1.0) for t in (half, double)] == [2 * task.steps(1.0), task.steps(1.0) // 2]
    with pytest.raises(BenchError, match=r"cannot be had 0\.0625 times"):
        task.with_batch(0.0625, 1.0)


def test_a_range_of_files_keeps_its_zeros():
    assert expand_range("c4-train.{00098..00101}.gz") == [f"c4-train.{n:05d}.gz" for n in range(98, 102)]
    assert expand_range("plain") == ["plain"]


def entry_in(folder: Path, toml: str | None = None, code: str | None = None) -> Path:
    source = ROOT / "baselines" / "muon"
    (folder / "optimizer.py").write_text(code or (source / "optimizer.py").read_text())
    path = folder / "muon.toml"
    path.write_text(toml or (source / "muon.toml").read_text())
    return path


def test_an_entry_s_digest_moves_with_its_code_and_not_with_its_comments(tmp_path):
    code = (ROOT / "baselines" / "muon" / "optimizer.py").read_text()
    plain = Entry(entry_in(tmp_path)).digest
    assert (
        Entry(entry_in(tmp_path, code="# said otherwise\n" + code.replace('"""Muon:', '"""This is Muon:'))).digest
        == plain
    )
    assert Entry(entry_in(tmp_path, code=code.replace("1 - group", "1.0 - group"))).digest != plain


def test_an_entry_s_digest_covers_the_shared_mathematics_it_imports():
    names = set(Entry(ROOT / "baselines/muon/muon.toml").sources)
    assert {"optimizer.py", "bench.linalg.newton_schulz", "bench.linalg.matrixwise"} <= names
    assert not any("linalg" in name for name in Entry(ROOT / "baselines/adamw/adamw.toml").sources)


ENTRY_MISTAKES = {
    "a value that is missing": ("momentum            = 0.95\n", "", "no value for hyperparameter momentum"),
    "a value too many": (
        "[fixed]\n",
        "[fixed]\nmomentun = 0.9\n",
        "momentun is no field of Hyperparameters; did you mean",
    ),
    "a default outside its range": ("default = 2e-2", "default = 2.0", "the default 2.0 lies outside"),
    "an empty range": ("high    = 1.6e-1", "high    = 1e-3", "is empty"),
    "transfer off without a reason": (
        'scope   = "hidden"',
        'scope = "hidden"\ntransfer = false',
        "needs a transfer_reason",
    ),
    "a value outside its domain": ("newton_schulz_steps = 5", "newton_schulz_steps = 0", "newton_schulz_steps is 0"),
    "a range that leaves the domain": (
        "[fixed]\nmomentum            = 0.95",
        '[search.momentum]\ndefault=0.9\nlow=0.8\nhigh=1.0\nscale="linear"\n[fixed]',
        "momentum is 1.0, expected a number from 0 up to but not 1",
    ),
    "a schedule of its own": ('kind            = "decay"', 'kind = "cosine"', "schedule.kind"),
}


@pytest.mark.parametrize("what", ENTRY_MISTAKES)
def test_a_mistake_in_an_entry_is_named(tmp_path, what):
    old, new, message = ENTRY_MISTAKES[what]
    text = (ROOT / "baselines" / "muon" / "muon.toml").read_text()
    assert old in text
    with pytest.raises(BenchError) as caught:
        Entry(entry_in(tmp_path, toml=text.replace(old, new)))
    assert message in str(caught.value)


def test_an_entry_without_build_or_without_python_is_named(tmp_path):
    with pytest.raises(BenchError, match="defines no build"):
        Entry(entry_in(tmp_path, code="class Hyperparameters: pass\n"))
    with pytest.raises(BenchError, match=r"not readable as Python: .*\(optimizer\.py, line 1\)"):
        Entry(entry_in(tmp_path, code="def build(:\n"))
    (tmp_path / "optimizer.py").unlink()
    with pytest.raises(BenchError, match="no such file"):
        Entry(tmp_path / "muon.toml")


def test_a_path_that_leads_nowhere_says_what_may_have_been_meant(monkeypatch):
    monkeypatch.chdir(ROOT)
    for typed, meant in (
        ("smoke", "smoke: no such file; did you mean tasks/smoke.toml?"),
        ("muon", "muon: no such file; did you mean baselines/muon/muon.toml?"),
        ("baselines/muom/muon.toml", "baselines/muom/muon.toml: no such file; did you mean muon?"),
        ("tasks/smok.toml", "tasks/smok.toml: no such file; did you mean smoke.toml?"),
        ("quux", "quux: no such file"),
        ("a**[b", "a**[b: no such file"),
    ):
        with pytest.raises(BenchError) as wrong:
            read_task(Path(typed))
        assert wrong.value.what == meant
    with pytest.raises(BenchError) as folder:
        read_task(Path("baselines/muon"))
    assert folder.value.what == "baselines/muon: is a folder, expected a file"
    assert folder.value.hint == "as baselines/muon/moonlight.toml, baselines/muon/muon.toml"
    with pytest.raises(BenchError, match="is an entry, expected a task"):
        read_task(Path("baselines/muon/muon.toml"))


def test_values_set_by_hand_must_be_known_and_finite(tmp_path):
    path = tmp_path / "values.toml"
    path.write_text("lr = 0.1\n")
    entry = Entry(ROOT / "baselines/muon/muon.toml")
    assert entry.values(read_values(path))["lr"] == 0.1
    with pytest.raises(BenchError, match="has no hyperparameter weight_deacy; did you mean weight_decay"):
        entry.values({"weight_deacy": 0.1})
    with pytest.raises(BenchError, match=r"values\.toml: lr is 'fast'"):
        entry.values({"lr": "fast"}, path)
    path.write_text("lr = nan\n")
    with pytest.raises(BenchError, match="must be a finite number"):
        read_values(path)


OUT_OF_DOMAIN = {
    "momentum": (-1, "expected a number from 0 up to but not 1"),
    "lr": ("fast", "expected a number"),
    "weight_decay": (True, "expected a number"),
    "newton_schulz_steps": (5.0, "expected a whole number"),
    "scaling": ("spektral", "expected one of spectral, rms"),
}


@pytest.mark.parametrize("name", OUT_OF_DOMAIN)
def test_a_hyperparameter_outside_its_domain_is_named_with_its_value(name):
    value, wanted = OUT_OF_DOMAIN[name]
    entry = Entry(ROOT / "baselines/muon/muon.toml")
    with pytest.raises(BenchError) as caught:
        entry.values({name: value})
    assert str(caught.value) == f"{entry.path}: {name} is {value!r}, {wanted}"


@pytest.mark.parametrize(
    "name, annotation, value, wanted",
    [
        ("beta1", "float", 1.5, "a number from 0 up to but not 1"),
        ("shampoo_beta", "float", 1.0, "a number from 0 up to but not 1"),
        ("eps", "float", -1, "a number from 0"),
        ("weight_decay", "float", -1e-9, "a number from 0"),
        ("rest_lr_factor", "float", -1.0, "a number from 0"),
        ("lr", "float", float("inf"), "a finite number"),
        ("lr", "float", float("nan"), "a finite number"),
        ("steps", "int", 10**400, "a finite number"),
        ("steps", "int", 0, "a whole number from 1"),
        ("frequency", "int", -3, "a whole number from 1"),
        ("frequency", "int", True, "a whole number"),
        ("nesterov", "bool", 1, "true or false"),
        ("scale", "str", 1, "text"),
        ("momentum", "float", 0, None),
        ("beta2", "float", 0.999, None),
        ("eps", "float", 0, None),
        ("steps", "int", 1, None),
        ("radius", "float", -1.0, None),
        ("kind", 'Literal["a", "b"]', "b", None),
        ("kind", 'Literal["a", "b"]', 3, "one of a, b"),
    ],
)
def test_a_value_s_type_is_the_dataclass_s_and_its_domain_goes_by_its_name(name, annotation, value, wanted):
    assert expected(name, annotation, value) == wanted


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.text(), st.binary(), json_values.map(json.dumps)))
@pytest.mark.parametrize("reader", [
    lambda path: read_toml(path, Task), lambda path: read_toml(path, Facts), lambda path: read_json(path, Record),
    lambda path: read_json(path, Log), read_record, read_values, Entry,
], ids=["task", "facts", "record", "log", "read_record", "values", "entry"])  # fmt: skip
def test_whatever_a_file_holds_a_reader_returns_or_says_one_thing(tmp_path, reader, content):
    path = tmp_path / "file"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    try:
        reader(path)
    except BenchError as error:
        assert len(str(error).splitlines()) >= 1


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_task_with_any_one_value_replaced_is_read_or_refused(tmp_path, data):
    table = json.loads(read_task(NANO).model_dump_json())
    section = data.draw(st.sampled_from(sorted(table)))
    target = table[section] if isinstance(table[section], dict) else table
    key = data.draw(st.sampled_from(sorted(target))) if target is not table else section
    target[key] = data.draw(json_values)
    path = tmp_path / "task.json"
    path.write_text(json.dumps(table))
    try:
        read_json(path, Task)
    except BenchError as error:
        assert "task.json" in str(error)
