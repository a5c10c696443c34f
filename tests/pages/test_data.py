"""What machines read: every board's file keeps the published schema, and the index leads to it."""

import copy
import json

import jsonschema
import pytest

from bench.pages.data import FOLDER, SCHEMA


@pytest.fixture(scope="module")
def files(told):
    return {path: text for path, text in told.items() if path.startswith(FOLDER)}


def test_every_board_keeps_the_schema_that_is_published(files, site):
    schema = json.loads(files[SCHEMA])
    jsonschema.Draft202012Validator.check_schema(schema)
    boards = [json.loads(text) for made in (files, site) for path, text in made.items() if "/boards/" in path]
    assert len(boards) >= 3
    for board in boards:
        jsonschema.validate(board, schema)


def test_the_schema_refuses_what_is_missing_and_what_is_new(files):
    schema = json.loads(files[SCHEMA])
    board = json.loads(files[f"{FOLDER}/boards/small.bf16.tuned.json"])
    for change in (lambda b: b.pop("noise"), lambda b: b.update(more=1), lambda b: b["rows"][0].update(entry=None),
                   lambda b: b["ladder"][0].update(budget="1x")):  # fmt: skip
        broken = copy.deepcopy(board)
        change(broken)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, schema)


def test_the_index_names_every_board_with_the_digest_that_is_cited(files):
    index = json.loads(files[f"{FOLDER}/index.json"])
    assert [board["file"] for board in index["boards"]] == [
        f"boards/small.bf16.{track}.json" for track in ("tuned", "transfer")
    ]
    assert all(f"{FOLDER}/{board['file']}" in files and len(board["digest"]) == 64 for board in index["boards"])
    assert f"{FOLDER}/{index['schema']}" == SCHEMA


def test_no_number_of_a_board_is_missing_as_nan(files):
    for text in files.values():
        json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} in a file"))
