"""The exceptions are the ones the core raises, form the tree that is drawn, and survive a pickle."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
import traceback
from typing import Any

import pytest

import replyio.errors
from replyio import FieldError, ReplyError, _replyio

DRAWN = re.compile(r"^ *(?P<indent>[│ ├└─]*?)(?P<name>[A-Z]\w+Error)(?: \((?P<base>\w+)\))?(?P<statuses> +[\dx, ]+)?$")


def family(cls: type[ReplyError]) -> list[type[ReplyError]]:
    return [cls, *(member for child in cls.__subclasses__() for member in family(child))]


ERRORS = family(ReplyError)
VALUES: dict[str, Any] = {
    "attempts": 3,
    "code": "contactAccount.notFound",
    "detail": "Contact account not found.",
    "elapsed": 1.25,
    "errors": [FieldError("name", "is required"), FieldError("", "is not an object")],
    "excerpt": "<html>",
    "last_error": "connection refused",
    "may_have_been_applied": True,
    "request_id": "4bf92f",
    "retry_after": 42.0,
    "status": 404,
    "title": "Not Found",
}


def attributes(cls: type[ReplyError]) -> list[str]:
    return [name for parent in cls.__mro__ for name in vars(parent).get("__annotations__", {})]


def example(cls: type[ReplyError]) -> ReplyError:
    return cls("update of account 4711 failed", **{name: VALUES[name] for name in attributes(cls)})


def test_the_tree_is_drawn_as_it_is() -> None:
    drawn, above = [], []
    tree = inspect.cleandoc(replyio.errors.__doc__ or "").partition("::\n")[2].strip("\n")
    for line in tree.partition("\n\n")[0].splitlines():
        match = DRAWN.match(line)
        assert match, line
        depth = len(match["indent"]) // 4
        above = [*above[:depth], match["name"]]
        bases = [above[-2] if depth else "Exception", *filter(None, [match["base"]])]
        drawn.append((match["name"], bases))
    assert drawn == [(cls.__name__, [base.__name__ for base in cls.__bases__]) for cls in ERRORS]


def test_the_module_lists_the_whole_family_and_nothing_else() -> None:
    others = {"FieldError", "ReplyWarning"}
    assert set(replyio.errors.__all__) - others == {cls.__name__ for cls in ERRORS}
    assert set(replyio.errors.__all__) <= set(replyio.__all__)


def test_the_core_raises_every_class_but_the_base() -> None:
    # There are no plans yet.
    assert set(_replyio.ERROR_KINDS) == {cls.__name__ for cls in ERRORS} - {"ReplyError", "PlanError"}
    assert len(_replyio.ERROR_KINDS) == len(set(_replyio.ERROR_KINDS))


@pytest.mark.parametrize("cls", ERRORS)
def test_attributes_have_defaults(cls: type[ReplyError]) -> None:
    error = cls("one line")
    for name in attributes(cls):
        getattr(error, name)
    assert not error.__dict__.keys() - {"message"}


@pytest.mark.parametrize("cls", ERRORS)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_keeps_class_message_and_attributes(cls: type[ReplyError], protocol: int) -> None:
    error = example(cls)
    back = pickle.loads(pickle.dumps(error, protocol))
    assert type(back) is cls
    assert (str(back), back.args, back.__dict__) == (str(error), error.args, error.__dict__)


@pytest.mark.parametrize("cls", ERRORS)
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_keeps_class_message_and_attributes(cls: type[ReplyError], copied: Any) -> None:
    error = example(cls)
    back = copied(error)
    assert back is not error
    assert type(back) is cls
    assert (str(back), back.__dict__) == (str(error), error.__dict__)


@pytest.mark.parametrize("cls", ERRORS)
def test_a_traceback_ends_in_one_line(cls: type[ReplyError]) -> None:
    error = example(cls)
    assert traceback.format_exception_only(error) == [f"replyio.errors.{cls.__name__}: {error.message}\n"]


def test_a_field_error_is_a_pair_that_reads_as_one_line() -> None:
    fault = FieldError("company_size", "must be one of the ten")
    assert tuple(fault) == (fault.field, fault.message)
    assert str(fault) == "company_size: must be one of the ten"
    assert eval(repr(fault), {"FieldError": FieldError}) == fault  # noqa: S307
    assert str(FieldError("", "must be an object")) == "must be an object"
    for back in (pickle.loads(pickle.dumps(fault)), copy.deepcopy(fault)):
        assert type(back) is FieldError
        assert back == fault
