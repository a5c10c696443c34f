"""Workers import what they are given by name: the folders of their functions are put where they find them."""

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FOLDERS = [str(HERE), str(HERE.parent / "support"), str(HERE.parents[1])]

sys.path.append(str(HERE))


@pytest.fixture(scope="session", autouse=True)
def found_by_workers():
    """Hand the folders on to processes that do not start as copies of this one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(FOLDERS))
        yield
