"""What `xfs_quota report` prints, read into projects, and the ids that are given to volumes.

The lines are in the form that xfs_quota(8) gives; a kernel with project quotas runs the integration tests.
"""

from __future__ import annotations

import pytest
from bailey.errors import HostError
from bailey.host.quota_xfs import FIRST_PROJECT, LAST_PROJECT, Project, free_project, parse_projects

REPORT = f"""
#0                   0          0          0     00 [--------]
#{FIRST_PROJECT}          4          0      16384     00 [--------]
#{FIRST_PROJECT + 1}       1024          0          0     00 [--------]

"""


def test_projects_are_read_in_bytes() -> None:
    assert parse_projects(REPORT) == {
        0: Project(0, None),
        FIRST_PROJECT: Project(4096, 16 << 20),
        FIRST_PROJECT + 1: Project(1 << 20, None),
    }


@pytest.mark.parametrize("line", ["#12 4", "web 4 0 16 00 [--------]", "#12 four 0 16 00 [--------]"])
def test_a_line_that_cannot_be_read_is_shown(line: str) -> None:
    with pytest.raises(HostError, match="cannot be read"):
        parse_projects(line)


def test_the_lowest_free_id_is_taken_and_ids_of_others_do_not_count() -> None:
    assert free_project([]) == FIRST_PROJECT
    assert free_project([0, 1, FIRST_PROJECT, FIRST_PROJECT + 2]) == FIRST_PROJECT + 1


def test_when_every_id_is_taken_the_range_is_named() -> None:
    with pytest.raises(HostError, match=str(LAST_PROJECT)):
        free_project(range(FIRST_PROJECT, LAST_PROJECT + 1))
