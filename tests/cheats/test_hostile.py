"""Bundles whose numbers, names and texts would bring a check to its end: each is a finding, with a verdict."""

import gzip
import inspect
import io
import json
import tarfile
import tracemalloc

import pytest

from bench.errors import BenchError
from bench.evaluate.loss import block_means
from bench.submission.files import Finding, read_bundle
from bench.submission.judge import verify
from bench.submission.logs import BLOCKS, sizes_of_blocks
from bench.submission.pack import archive

PLAN, RUN = "0" * 16, "0" * 64
LOG = f"leaderboard/records/small/{PLAN}/{RUN}.log.gz"


def edits(folder, **changed):
    """Change a plan's file under the name that its digest then has, as a forger would who reads no model."""
    from bench.digest import digest_of

    path = next((folder / "leaderboard" / "plans").rglob("*.json"))
    facts = {**json.loads(path.read_text()), **changed}
    path.unlink()
    path.with_name(f"{facts['entry']}-{digest_of(facts)[:16]}.json").write_text(json.dumps(facts))


def a_rung_that_is_no_number(f):
    edits(f.folder, rungs={"abc": [0, 1, 2]})


def a_rung_of_a_mode_that_is_no_number(f):
    edits(f.folder, mode_rungs={"abc": [0]}, modes=["bf16", "qat-int8"])


def a_rerun_on_no_track(f):
    edits(f.folder, tracks=[], after=f.clone.plan.digest, rerun={"of": f.clone.plan.digest, "merge": "0" * 40})


def tokens_beyond_all_floats(f):
    f.forge(lambda facts: facts.update(tokens=10**400))


def steps_beyond_all_memory(f):
    f.forge_log(lambda log: log.update(stride=10**9, loss=[1.0], gradient_norm=[1.0]))
    f.forge(lambda facts: facts.update(steps=10**9))


def a_loss_beyond_fp32(f):
    f.forge_log(lambda log: log["loss"].__setitem__(3, 1e300))


def a_budget_beyond_all_floats(f):
    f.forge(lambda facts: facts["inputs"].update(budget=1e308))


def a_warm_up_that_is_text(f):
    f.forge(lambda facts: facts["inputs"]["values"].update(warmup_fraction="abc"))


def batches_of_nothing(f):
    f.forge(lambda facts: facts["facts"].update(batches={"first": 0, "last": 0, "largest": 0}))


def blocks_without_end(f):
    f.forge_log(lambda log: log.update(score_blocks=[1.0] * 5_000))


def code(f, text):
    (f.folder / "baselines" / "my_optimizer" / "optimizer.py").write_text(text)


def a_source_of_minus_signs(f):
    code(f, "x = " + "-" * 39_000 + "1")


def a_source_of_dots(f):
    code(f, "x = a" + ".b" * 19_000)


def a_source_that_is_no_python(f):
    code(f, "def build(:")


def an_unknown_mode(f):
    edits(f.folder, modes=["bf16", "qat-int99"])


def a_loss_of_other_blocks(f):
    f.forge_log(lambda log: log.update(score_blocks=[*log["score_blocks"], log["score_blocks"][0]]))


def a_swap_of_weights_in_a_comment(f):
    path = f.folder / "baselines" / "my_optimizer" / "optimizer.py"
    path.write_text(path.read_text() + "# def evaluation_weights\n")
    f.forge(lambda facts: facts["weights"].update(evaluated="0" * 64))


HOSTILE = {
    a_rung_that_is_no_number: "rungs",
    a_rung_of_a_mode_that_is_no_number: "mode_rungs",
    a_rerun_on_no_track: "tracks",
    tokens_beyond_all_floats: "OverflowError",
    steps_beyond_all_memory: ".json: steps: 1,000,000,000, the budget has at most ",
    a_loss_beyond_fp32: "OverflowError",
    a_budget_beyond_all_floats: ".json: inputs.budget: 1e+308 is no rung",
    a_warm_up_that_is_text: "ValueError",
    batches_of_nothing: "ZeroDivisionError",
    blocks_without_end: "log.score_blocks: 5,000 blocks, expected at most 512",
    a_source_of_minus_signs: "optimizer.py: ",
    a_source_of_dots: "optimizer.py: ",
    a_source_that_is_no_python: "not readable as Python",
    an_unknown_mode: "no mode qat-int99",
    a_loss_of_other_blocks: ": score_loss: ",
    a_swap_of_weights_in_a_comment: ": weights.evaluated: ",
}


@pytest.mark.parametrize("cheat", HOSTILE, ids=lambda cheat: cheat.__name__.replace("_", "-"))
def test_a_verdict_is_given_on(cheat, forgery):
    cheat(forgery)
    said = forgery.said()
    assert any(HOSTILE[cheat] in line for line in said), said


def test_names_that_cannot_be_printed_stand_as_escapes(tmp_path):
    said = str(Finding("a\udcff\x1b[2J\nb", "", "is no file of a submission"))
    assert said == "a\\udcff\\x1b[2J\\nb: is no file of a submission"
    said.encode("ascii")


def test_a_name_that_no_file_system_holds_is_named(tmp_path):
    name = f"baselines/{'x' * 300}/optimizer.py"
    (tmp_path / "b.tar.gz").write_bytes(archive({name: b""}))
    assert str(read_bundle(tmp_path / "b.tar.gz")[1][0]).endswith("has a name of more than 120 characters")


def of_headers(*members) -> bytes:
    held = io.BytesIO()
    for kind, data in members:
        facts = tarfile.TarInfo("x")
        facts.type, facts.size = kind, len(data)
        held.write(facts.tobuf(tarfile.GNU_FORMAT))
        held.write(data + bytes(-len(data) % 512))
    return gzip.compress(held.getvalue() + bytes(1024))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_long_name_of_megabytes_is_not_read(tmp_path, kind):
    (tmp_path / "b.tar.gz").write_bytes(of_headers((kind, bytes(30_000_000))))
    tracemalloc.start()
    with pytest.raises(BenchError, match="a header of 30,000,000 bytes"):
        read_bundle(tmp_path / "b.tar.gz")
    assert verify(tmp_path / "b.tar.gz", tmp_path).findings[0].file == "b.tar.gz"
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


def test_headers_of_headers_and_folders_without_end_are_refused(tmp_path):
    (tmp_path / "b.tar.gz").write_bytes(of_headers(*[(tarfile.GNUTYPE_LONGNAME, b"y")] * 5_000))
    with pytest.raises(BenchError, match="the bundle is damaged"):
        read_bundle(tmp_path / "b.tar.gz")
    (tmp_path / "c.tar.gz").write_bytes(of_headers(*[(tarfile.DIRTYPE, b"")] * 11_000))
    with pytest.raises(BenchError, match="the bundle is damaged: more than 10,000 members"):
        read_bundle(tmp_path / "c.tar.gz")


def test_what_goes_on_behind_the_end_of_a_log_is_named(tmp_path):
    """Readers of gzip unpack all members; looked at alone, the first hides what the others hold."""
    whole = gzip.compress(b"{}")
    for data, reason in ((whole + whole, "goes on behind its end"), (whole[:-4], "is cut short")):
        (tmp_path / "b.tar.gz").write_bytes(archive({LOG: data}))
        assert [str(found) for found in read_bundle(tmp_path / "b.tar.gz")[1]] == [f"{LOG}: {reason}"]


def test_the_size_of_blocks_is_what_the_harness_makes():
    import numpy as np

    assert inspect.signature(block_means).parameters["blocks"].default == BLOCKS
    losses = np.random.default_rng(0).normal(3, 0.3, size=(3, 1_300))
    sizes = [sizes_of_blocks(float(one.mean()), block_means(one)) for one in losses]
    assert all((2, 1_300 - 2 * BLOCKS) in found for found in sizes)
    assert len(frozenset.intersection(*sizes)) == 1
    few = losses[0, :7]
    assert sizes_of_blocks(float(few.mean()), block_means(few)) == {(1, 0)}
    assert not sizes_of_blocks(float(few.mean()) + 1e-4, block_means(few))
