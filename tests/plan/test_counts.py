"""`counts` has every status, so that nobody has to ask whether one is there."""

from __future__ import annotations

import copy
import json
import pickle
import typing

import pytest

import replyio
from replyio.plan import Counts, Status
from replyio.sandbox import Sandbox

from .jobs import companies, do, moves, plan

STATUSES = list(typing.get_args(Status))


def test_counts_have_every_status_wherever_they_are_told() -> None:
    with Sandbox(accounts=companies(3)) as service, service.client() as client:
        made = plan(client, "sync", moves([1, 2]))
        result = do(made, "apply")
        again = plan(client, "sync", moves([1, 2]))
        for counts in (made.counts, result.counts, again.counts, *(kept.counts for kept in replyio.plans())):
            assert list(counts) == STATUSES
            assert sum(counts.values()) == 2
            assert counts["failed"] == 0
        assert (result.counts["changed"], again.counts["unchanged"]) == (2, 2)


def test_counts_are_compared_without_the_statuses_that_no_row_has() -> None:
    """A test of somebody's job names the statuses that it means."""
    counts = Counts({"changed": 4})
    assert counts == {"changed": 4}
    assert counts == {"changed": 4, "failed": 0}
    assert counts == {"changed": 4}
    assert counts == Counts({"changed": 4})
    assert counts != {"changed": 4, "failed": 1}
    assert counts != {"changed": 3}
    assert counts != {}
    assert Counts() == {}
    assert counts != 4
    assert repr(counts) == "{'changed': 4}"
    assert [status for status in [*STATUSES, "broken"] if status in counts] == ["changed"]
    for other in (copy.copy(counts), copy.deepcopy(counts), pickle.loads(pickle.dumps(counts))):
        assert other == counts
        assert list(other) == STATUSES
    assert json.loads(json.dumps(counts)) == dict.fromkeys(STATUSES, 0) | {"changed": 4}


def test_a_misspelled_status_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        Counts()["broken"]  # type: ignore[index]
