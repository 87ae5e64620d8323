"""Fixtures of the scorers' tests."""

from __future__ import annotations

import pytest

from explorer.core.keys import MatrixKey
from explorer.masks.mask import Mode
from explorer.models import View
from explorer.models.matrices import matrices


@pytest.fixture(params=("freeze", "zero"))
def mode(request: pytest.FixtureRequest) -> Mode:
    """Runs a test once per removal mode."""
    found: Mode = request.param
    return found


@pytest.fixture
def keys(view64: View) -> tuple[MatrixKey, ...]:
    """Every matrix, per head and stacked."""
    return tuple(sorted({*matrices(view64), *matrices(view64, per_head=False)}))


@pytest.fixture
def stacked(view64: View) -> tuple[MatrixKey, ...]:
    """Every matrix, stacked."""
    return matrices(view64, per_head=False)
