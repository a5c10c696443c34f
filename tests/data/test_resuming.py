"""A building that was killed is gone on with, and ends in the same files; processes that meet do not tear."""

import json
import random
import re
import signal
import time

import pytest

from bench.data import tokens
from bench.data.drafts import FORSAKEN_SECONDS
from bench.data.tokens import prepare
from bench.errors import BenchError

SMALL = {
    "bench.data.corpus.BATCH_DOCUMENTS": 10,
    "bench.data.corpus.TABLE_DOCUMENTS": 7,
    "bench.data.tokens.BATCH_DOCUMENTS": 10,
    "bench.data.tokens.JOURNAL_SECONDS": 0.0,
    "bench.data.tokens.REPORT_SECONDS": 0.0,
    "bench.data.shards.MIB": 256,
    "bench.data.shards.SHARD_TOKENS": 1280,  # ten MiBs of two bytes a token
}


@pytest.fixture
def small(monkeypatch):
    """Batches, shards and times between journals are tiny, and the disk's patience is not what is tested."""
    monkeypatch.setattr(tokens.os, "fsync", lambda handle: None)
    for name, value in SMALL.items():
        monkeypatch.setattr(name, value)


@pytest.fixture
def text(corpus):
    """Three files of 50 documents; training takes 140 of them, about 14,000 tokens."""
    draw = random.Random(0)
    texts = ["".join(draw.choices("abcdefgh \n", k=draw.randrange(200))) for _ in range(150)]
    data = corpus(texts[:50], texts[50:100], texts[100:], first=5, last=145)
    few = data.select.model_copy(update={"last": 30})
    return data.model_copy(update={"select": few, "score": few})


class Stop(Exception):
    pass


def stopped_after(count: int):
    """Return a progress that raises at its count-th line: the journal was written just before."""
    lines = []

    def progress(line: str) -> None:
        lines.append(line)
        if len(lines) == count:
            raise Stop

    return progress


def files_of(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def whole(data, folder) -> dict[str, bytes]:
    return files_of(prepare(data, 257, folder)["train"].folder)


def draft_of(data, folder, count: int):
    """Return a draft that was left after so many lines of progress."""
    with pytest.raises(Stop):
        prepare(data, 257, folder, stopped_after(count))
    (draft,) = folder.glob(".*.partial")
    return draft


def test_a_building_stopped_after_any_batch_ends_in_the_same_files(text, tmp_path, small):
    undisturbed = whole(text, tmp_path / "undisturbed")
    lines: list[str] = []
    prepare(text, 257, tmp_path / "counted", lines.append)
    assert len(lines) > 16 and len(undisturbed) > 28
    for count in range(1, len(lines) + 1):
        folder, notes = tmp_path / str(count), []
        draft_of(text, folder, count)
        prepare(text, 257, folder, note=notes.append)
        assert whole(text, folder) == undisturbed, count
        assert len(notes) == 1 and re.match(r"\w+: going on after [\d,]+ tokens", notes[0]), (count, notes)


def test_what_the_journal_holds_is_neither_encoded_nor_read_again(text, corpus, tmp_path, small, monkeypatch):
    undisturbed = whole(text, tmp_path / "undisturbed")
    draft = draft_of(text, tmp_path / "data", 6)
    mark = json.loads((draft / "journal.json").read_text())["mark"]["facts"]
    assert mark["documents"] > 60 and len(mark["sources"]) == 2
    made = tokens.tokenizer_of(text)
    packed = []

    def pack(documents):
        packed.append(len(documents))
        return made.pack(documents)

    monkeypatch.setattr(tokens, "tokenizer_of", lambda data: tokens.Tokenizer(257, 256, made.digest, pack))
    monkeypatch.setattr(tokens, "get_args", lambda kind: ("train",))  # the others begin with the file that is lost
    corpus(b"read to its end, and since lost")
    assert prepare(text, 257, tmp_path / "data")["train"].facts.documents == 140
    assert sum(packed) == 140 - mark["documents"]
    left = files_of(next(path for path in (tmp_path / "data").iterdir() if path.is_dir()))
    trained = {name: content for name, content in undisturbed.items() if name.startswith("train")}
    assert {name: content for name, content in left.items() if name.startswith("train")} == trained


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        ("flipped bit", r"train-\d+\.bin was changed after it was written"),
        ("cut short", r"train-\d+\.bin is cut short"),
        ("lost", r"train-\d+\.bin is cut short"),
        ("closed shard lost", r"train-00000\.bin: cannot be read"),
        ("closed sidecar changed", r"train-00000\.bin: its sidecar train-00000\.sha256 was changed"),
        ("half a journal", r"journal\.json: not valid JSON"),
        ("journal of another set", r"journal\.json is of another text"),
        ("changed source", r"1\.json\.gz no longer begins with what was read of it"),
    ],
)
def test_a_draft_that_does_not_fit_is_started_anew_and_said_so(text, corpus, tmp_path, small, harm, says):
    draft, notes = draft_of(text, tmp_path / "data", 6), []
    journal, shard = draft / "journal.json", max(draft.glob("train-*.bin"))
    content = shard.read_bytes()
    if harm == "flipped bit":
        shard.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    elif harm == "cut short":
        shard.write_bytes(content[:-1])
    elif harm == "lost":
        shard.unlink()
    elif harm == "closed shard lost":
        (draft / "train-00000.bin").unlink()
    elif harm == "closed sidecar changed":
        (draft / "train-00000.sha256").write_bytes(b"0" * 320)
    elif harm == "half a journal":
        journal.write_text(journal.read_text()[:200])
    elif harm == "journal of another set":
        journal.write_text(json.dumps({**json.loads(journal.read_text()), "key": "0" * 64}))
    elif harm == "changed source":
        corpus(["a"] * 50, ["b"] * 50)
    prepare(text, 257, tmp_path / "data", note=notes.append)
    assert len(notes) == (2 if harm == "changed source" else 1) and notes[-1].endswith(": starting anew")
    assert re.search(says, notes[-1]), notes
    assert whole(text, tmp_path / "data") == whole(text, tmp_path / "undisturbed")


def test_a_building_that_failed_goes_on_once_the_cause_is_mended(text, corpus, tmp_path, small):
    undisturbed = whole(text, tmp_path / "undisturbed")
    broken = tmp_path / "mirror" / "some" / "text" / "2.json.gz"
    good, notes = broken.read_bytes(), []
    broken.write_bytes(good[:-30])
    with pytest.raises(BenchError, match=r"2\.json\.gz: the file is cut short"):
        prepare(text, 257, tmp_path / "data")
    broken.write_bytes(good)
    prepare(text, 257, tmp_path / "data", note=notes.append)
    assert notes and notes[0].startswith("train: going on after")
    assert whole(text, tmp_path / "data") == undisturbed


@pytest.mark.parametrize("journal", ["stands", "is gone"])
def test_a_kill_just_before_the_move_leaves_a_draft_that_is_only_moved(text, tmp_path, small, monkeypatch, journal):
    def stop(*arguments) -> None:
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(tokens.os, "rename", stop)
        patch.setattr(tokens.shutil, "rmtree", lambda *path, **how: None)  # a killed process tidies nothing
        with pytest.raises(Stop):
            prepare(text, 257, tmp_path / "data")
    (draft,) = (tmp_path / "data").glob(".*.partial")
    if journal == "stands":
        (draft / "journal.json").write_text("{}")
    with monkeypatch.context() as patch:
        patch.setattr(tokens, "_encode", stop)
        left = whole(text, tmp_path / "data")
    assert left == whole(text, tmp_path / "undisturbed")


def test_drafts_of_other_sets_are_kept_for_a_week(generated, tmp_path, text, small):
    draft = draft_of(text, tmp_path, 9)
    prepare(generated(train_documents=20), 257, tmp_path)
    assert draft.exists()
    tokens.os.utime(draft / "journal.json", (0, time.time() - FORSAKEN_SECONDS - 1))
    prepare(generated(train_documents=21), 257, tmp_path)
    assert not draft.exists()


PREPARE = """
import functools, random, resource, time
from pathlib import Path
from bench.data import corpus, shards, tokens
from bench.task import HubText, SyntheticText
data, note = {kind}.model_validate_json({spec!r}), functools.partial(print, flush=True)
def report(line):
    print(line, flush=True)
    {then}
{first}
try:
    print("digest", tokens.prepare(data, 257, Path({folder!r}), report, note)["train"].digest)
except Exception as error:
    print(type(error).__name__, error)
"""


def code(data, folder, then="pass", first="pass") -> str:
    kind, spec = type(data).__name__, data.model_dump_json()
    return PREPARE.format(kind=kind, spec=spec, folder=str(folder), then=then, first=first)


TINY = "; ".join(f"{name.removeprefix('bench.data.')} = {value}" for name, value in SMALL.items())


def test_processes_killed_at_random_moments_end_in_the_same_files(text, tmp_path, small, elsewhere):
    draw = random.Random()  # other moments each time: what fails once is a bug all the same
    first_lines = []
    for _ in range(6):
        process = elsewhere(code(text, tmp_path / "data", then="time.sleep(0.05)", first=TINY))
        first_lines.append(process.stdout.readline())
        time.sleep(draw.uniform(0, 0.25))  # of the second that the whole takes
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
    assert whole(text, tmp_path / "data") == whole(text, tmp_path / "undisturbed")
    assert sum("going on after" in line for line in first_lines) >= 2


def test_a_process_killed_while_building_leaves_nothing_that_is_taken_for_whole(generated, tmp_path, elsewhere):
    data = generated()
    process = elsewhere(code(data, tmp_path, then="time.sleep(60)"))
    assert process.stdout.readline().startswith("train:")  # its train shards are written
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    (left,) = tmp_path.glob(".*.partial")
    assert (left / "train-00000.bin").stat().st_size > 0
    assert len(prepare(data, 257, tmp_path)["train"]) > 50_000
    assert not list(tmp_path.glob(".*.partial"))


def test_a_second_process_waits_and_goes_on_when_the_first_is_killed(text, tmp_path, small, elsewhere):
    slowly = "time.sleep(next(pauses))"  # eight short ones, then one that outlasts the second's start
    pauses = f"{TINY}; import itertools; pauses = itertools.chain([0.2] * 7, itertools.repeat(60))"
    first = elsewhere(code(text, tmp_path / "data", then=slowly, first=pauses))
    for _ in range(8):
        assert first.stdout.readline().startswith("train:")
    second = elsewhere(code(text, tmp_path / "data", first=TINY))
    assert second.stdout.readline() == "another process prepares this text: waiting for it\n"
    assert first.poll() is None
    first.send_signal(signal.SIGKILL)
    assert re.match("(train|select|score): going on after", second.stdout.readline())
    out, err = second.communicate(timeout=600)
    assert "digest" in out, out + err
    assert whole(text, tmp_path / "data") == whole(text, tmp_path / "undisturbed")


def test_what_a_dead_builder_of_another_set_left_is_swept_up(generated, tmp_path):
    left = tmp_path / ".0123456789abcdef.partial"
    left.mkdir()
    (left / "train-00000.bin").write_bytes(b"half")
    prepare(generated(), 257, tmp_path)
    assert not left.exists()


def test_a_living_builder_is_not_swept_up(generated, tmp_path, elsewhere):
    process = elsewhere(code(generated(language_seed=9), tmp_path, then="time.sleep(1)"))
    assert process.stdout.readline().startswith("train:")
    prepare(generated(), 257, tmp_path)
    assert len(list(tmp_path.glob(".*.partial"))) == 1  # still at work
    out, err = process.communicate(timeout=600)
    assert "digest" in out, out + err


def test_two_processes_at_once_make_one_whole_set(generated, tmp_path, elsewhere):
    data = generated()
    processes = [elsewhere(code(data, tmp_path, then="time.sleep(0.3)")) for _ in range(2)]
    outputs = [process.communicate(timeout=600)[0].splitlines() for process in processes]
    assert sorted(len(output) for output in outputs) in ([1, 4], [2, 4]), outputs  # only one built, one may have waited
    assert outputs[0][-1] == outputs[1][-1] == f"digest {prepare(data, 257, tmp_path)['train'].digest}"
    assert len([path for path in tmp_path.iterdir() if not path.name.startswith(".")]) == 1


def test_a_full_disk_is_one_line_and_leaves_nothing_behind(generated, tmp_path, elsewhere):
    full = "resource.setrlimit(resource.RLIMIT_FSIZE, (2**14, 2**14))"  # larger files cannot be written
    out, err = elsewhere(code(generated(), tmp_path, first=full)).communicate(timeout=600)
    assert out.startswith(f"BenchError {tmp_path}: tokens cannot be written"), out + err
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".lock"]
