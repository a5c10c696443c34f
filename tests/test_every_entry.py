"""Whatever lies in baselines/ must pass the battery, and so must an entry anywhere else: adding one adds its tests."""

from pathlib import Path

import pytest

from bench.battery.checks import BATTERY
from bench.entry import find_entries

ENTRIES = find_entries(Path(__file__).parents[1] / "baselines")


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
@pytest.mark.parametrize("check", BATTERY, ids=lambda check: check.says.replace(" ", "-"))
def test_battery(check, entry):
    if not check.concerns(entry):
        pytest.skip("of no concern: a control by family, a coupled step, or no schedule to obey")
    check.run(entry)
