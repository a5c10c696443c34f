import json
import os

import pytest

from bench import index
from bench.digest import digest_of
from bench.errors import BenchError
from bench.index import load_index
from bench.record import Processor, find_records, log_path, read_record, seal
from bench.score.board import make_board


@pytest.fixture
def records(tmp_path, make_record):
    for seed in range(3):
        for budget, loss in {0.5: 3.7, 1.0: 3.5, 2.0: 3.4}.items():
            make_record(entry="adamw-ref", budget=budget, seed=seed, loss=loss + seed / 1000)
    make_record(entry="muon", seed=0, outcome="diverged")
    return tmp_path / "records"


@pytest.fixture
def reads(monkeypatch):
    """Count the records that are read whole."""
    paths = []
    monkeypatch.setattr(index, "read_record", lambda path: (paths.append(path), read_record(path))[1])
    return paths


def test_a_step_s_time_is_its_median_s_which_no_pause_moves(records):
    record = read_record(find_records([records])[0])
    row, cost = index.index_row(record, "a.json"), record.cost
    paused = record.model_copy(update={"cost": cost.model_copy(update={"train_seconds": 9 * cost.train_seconds})})
    assert row.token_seconds == pytest.approx(0.01 * record.steps / record.tokens) and row.token_seconds > 0
    assert index.index_row(paused, "a.json").token_seconds == row.token_seconds


def test_a_stand_in_gives_another_s_bits_and_no_step_times(records):
    record = read_record(find_records([records])[0])
    other = Processor(processor="another", instructions="avx2", switches={})
    stands_in = record.model_copy(update={"machine": record.machine.model_copy(update={"stands_for": other})})
    row = index.index_row(stands_in, "a.json")
    assert (row.stand_in, row.token_seconds) == (record.machine.processor, None)
    assert index.index_row(record, "a.json").stand_in is None


def test_rows_hold_what_the_records_say(records):
    rows = load_index([records], None)
    assert [row.path for row in rows] == [str(path) for path in find_records([records])]
    for row in rows:
        record = read_record(records.__class__(row.path))
        assert (row.run_id, row.score_loss, row.outcome, row.cause) == (
            record.run_id,
            record.score_loss,
            record.outcome,
            record.cause,
        )
        assert row.values_digest == digest_of(record.inputs.values)
        assert row.machine_kind == record.machine.kind and row.budget == record.inputs.budget


def test_a_second_look_reads_no_record_and_gives_the_same(records, tmp_path, reads):
    cold = load_index([records], tmp_path / "cache")
    assert len(reads) == 10
    assert load_index([records], tmp_path / "cache") == cold
    assert len(reads) == 10


def test_new_and_vanished_records_are_noticed(records, tmp_path, reads, make_record):
    first = load_index([records], tmp_path / "cache")
    (records.__class__(first[0].path)).unlink()
    new = make_record(entry="lion", seed=5)
    rows = load_index([records], tmp_path / "cache")
    assert len(rows) == 10 and len(reads) == 11
    assert str(new) in {row.path for row in rows} and first[0].path not in {row.path for row in rows}
    assert rows == load_index([records], tmp_path / "cache") == load_index([records], None)


def test_an_edited_record_is_refused_with_one_line_even_when_cached(records, tmp_path):
    load_index([records], tmp_path / "cache")
    path = find_records([records])[0]
    text = path.read_text()
    path.write_text(text.replace('"who": "tester"', '"who": "cheater"').replace('"who":"tester"', '"who":"cheater"'))
    for cache in (tmp_path / "cache", None):
        with pytest.raises(BenchError, match="changed after it was written") as error:
            load_index([records], cache)
        assert str(path) in error.value.what and "\n" not in error.value.what
    path.write_text(text)
    assert len(load_index([records], tmp_path / "cache")) == 10


def test_several_bad_records_are_counted_and_good_ones_are_not_read_twice(records, tmp_path, reads):
    for path in find_records([records])[:3]:
        path.write_text("{")
    with pytest.raises(BenchError, match=r"and 2 more records are refused"):
        load_index([records], tmp_path / "cache")
    reads.clear()
    with pytest.raises(BenchError):
        load_index([records], tmp_path / "cache")
    assert len(reads) == 3


@pytest.mark.parametrize("damage", [b"", b"{", b"garbage\n{}", None, "flip", "header", "rows"])
def test_a_damaged_cache_is_rebuilt(records, tmp_path, reads, damage):
    cold = load_index([records], tmp_path / "cache")
    (store,) = (tmp_path / "cache").glob("index-*.json")
    whole = store.read_bytes()
    body = whole.partition(b"\n")[2]
    table = json.loads(body)
    if damage is None:
        damage = whole[: len(whole) // 2]
    elif damage == "flip":
        damage = whole.replace(b"3.5", b"2.5", 1)
    elif damage in ("header", "rows"):
        table[damage] = [0]
        body = json.dumps(table).encode()
        damage = index.digest_of_bytes(body).encode() + b"\n" + body
    store.write_bytes(damage)
    reads.clear()
    assert load_index([records], tmp_path / "cache") == cold and len(reads) == 10
    assert store.read_bytes() == whole or len(load_index([records], tmp_path / "cache")) == 10


def test_a_cache_that_cannot_be_written_is_no_error(records, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    assert len(load_index([records], tmp_path / "file" / "cache")) == 10

    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(index, "write_atomically", full)
    assert len(load_index([records], tmp_path / "cache")) == 10


def test_drafts_and_logs_are_no_records(records):
    (records / "smoke" / ".x.json.1.partial").write_text("{")
    (records / "smoke" / ".hidden.json").write_text("{")
    rows = load_index([records, records / "smoke"], None)  # a folder inside another counts once
    assert len(rows) == 10 and all(log_path(records.__class__(row.path)).exists() for row in rows)


def test_a_folder_that_is_not_there_is_a_mistake(tmp_path):
    with pytest.raises(BenchError, match="no such folder"):
        load_index([tmp_path / "nowhere"], None)


def test_a_copied_record_under_another_name_is_refused(records):
    path = find_records([records])[0]
    path.with_name("0" * 64 + ".json").write_bytes(path.read_bytes())
    with pytest.raises(BenchError, match="run_id"):
        load_index([records], None)


def test_a_record_sealed_again_after_an_edit_of_its_inputs_is_refused(records):
    path = find_records([records])[0]
    table = json.loads(path.read_text())
    table["inputs"]["seed"] = 99
    path.write_text(json.dumps(seal(table)))
    with pytest.raises(BenchError, match="run_id"):
        load_index([records], None)


def test_same_size_and_new_time_is_read_again(records, tmp_path, reads):
    load_index([records], tmp_path / "cache")
    path = find_records([records])[0]
    os.utime(path, ns=(1, 1))
    reads.clear()
    load_index([records], tmp_path / "cache")
    assert [str(one) for one in reads] == [str(path)]


def test_records_on_disk_make_a_board(records, task):
    board = make_board(load_index([records], None), task, "adamw-ref")
    assert [rung.budget for rung in board.reference.rungs] == [0.5, 1.0, 2.0]
    assert board.rows[0].entry == "muon" and board.rows[0].rungs[0].causes == ("loss is not finite",)
