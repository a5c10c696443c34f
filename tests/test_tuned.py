"""Tuned values as a file."""

import pytest

from bench.errors import BenchError
from bench.tuned import Tuned, read_tuned, tuned_path, write_tuned


def test_tuned_values_are_read_back_as_written(tmp_path):
    values = {"lr": 1e-8, "nesterov": True, "steps": 5, "variant": 'a "b"', "transfer.32x64": 0.25}
    cost = {"trials": 3, "charged_tokens": 1e22, "train_seconds": 0.1}
    found = Tuned.model_validate_json(Tuned(
        plan="0" * 64, ledger="1" * 64, cost=cost, tuned={"bf16": {"0.5x": values, "1x": {}}}, transfer={},
    ).model_dump_json())  # fmt: skip
    path = tuned_path(tmp_path / "algorithm" / "entry.toml", "small", "entry@1")
    write_tuned(path, found)
    assert read_tuned(tmp_path / "algorithm" / "entry.toml", "small", "entry@1") == found
    assert found.at(0.5) == values
    with pytest.raises(BenchError, match="no tuned values at 2x in bf16"):
        found.at(2.0)
