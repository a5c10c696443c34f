"""What machines read: every board's file keeps the published schema, and the index leads to it."""

import copy
import json

import jsonschema
import pytest
import synthetic

from bench.pages.boards import sheet
from bench.pages.data import FOLDER, SCHEMA, data_files
from bench.pages.views import board_view


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    tuned = synthetic.material(tmp_path_factory.mktemp("ledgers"), ("adamw", "sgd"), ("bf16",))
    return data_files([sheet(board_view(board, tuned), tuned) for board in tuned.boards])


def test_every_board_keeps_the_schema_that_is_published(files, site):
    schema = json.loads(files[SCHEMA])
    jsonschema.Draft202012Validator.check_schema(schema)
    boards = [json.loads(text) for made in (files, site) for path, text in made.items() if "/boards/" in path]
    assert len(boards) >= 3
    for board in boards:
        jsonschema.validate(board, schema)


def test_the_schema_refuses_what_is_missing_and_what_is_new(files):
    schema = json.loads(files[SCHEMA])
    board = json.loads(files[f"{FOLDER}/boards/nano.bf16.tuned.json"])
    for change in (lambda b: b.pop("noise"), lambda b: b.update(more=1), lambda b: b["rows"][0].update(entry=None),
                   lambda b: b["ladder"][0].update(budget="1x")):  # fmt: skip
        broken = copy.deepcopy(board)
        change(broken)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, schema)


def test_the_index_names_every_board_with_the_digest_that_is_cited(files):
    index = json.loads(files[f"{FOLDER}/index.json"])
    assert [board["file"] for board in index["boards"]] == ["boards/nano.bf16.tuned.json"]
    assert f"{FOLDER}/{index['boards'][0]['file']}" in files and len(index["boards"][0]["digest"]) == 64
    assert f"{FOLDER}/{index['schema']}" == SCHEMA


def test_no_number_of_a_board_is_missing_as_nan(files):
    for text in files.values():
        json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} in a file"))
