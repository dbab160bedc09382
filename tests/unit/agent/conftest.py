"""What the tests of the agent share."""

from __future__ import annotations

import pytest

# Before a test imports them: pytest shows the values only of assertions that it has rewritten.
pytest.register_assert_rewrite("tests.unit.agent.guard_stage", "tests.unit.agent.host_stand_in")
