"""What several test modules share."""

import os
from pathlib import Path

import pytest

DEFAULT_FIXTURES = Path(__file__).resolve().parents[2] / "shared" / "fixtures"


@pytest.fixture(scope="session")
def fixtures_dir() -> Path:
    """The folder of the published project's reference numbers; tests skip without it, except in CI, where they fail."""
    folder = Path(os.environ.get("OFA_TF_FIXTURES", DEFAULT_FIXTURES))
    if not folder.is_dir():
        stop = pytest.fail if os.environ.get("CI") else pytest.skip
        stop(f"there is no folder {folder} of reference numbers; OFA_TF_FIXTURES names another one")
    return folder
