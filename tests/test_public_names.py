"""Every public name can be imported, is found by an editor, and says what it does."""

from __future__ import annotations

import ast
import builtins
import dataclasses
import enum
import importlib
import inspect
import pkgutil
import re
import textwrap
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import replyio

if TYPE_CHECKING:
    from collections.abc import Iterator

SECTION = re.compile(r"^(\w+):\n((?:^(?: .*)?\n)+)", re.MULTILINE)
ENTRY = re.compile(r"^ {4}(\*{0,2}\w+)(?: \(.*\))?: \S", re.MULTILINE)

# `replyio.__main__` runs the command line when it is imported, the compiled module is private.
MODULES = [
    module
    for module in (info.name for info in pkgutil.iter_modules(replyio.__path__))
    if module not in {"__main__", "_replyio"}
]


def public_names() -> Iterator[tuple[str, Any]]:
    for name in replyio.__all__:
        yield f"replyio.{name}", getattr(replyio, name)
    for module in MODULES:
        namespace = importlib.import_module(f"replyio.{module}")
        for name in getattr(namespace, "__all__", []):
            if not hasattr(replyio, name):
                yield f"replyio.{module}.{name}", getattr(namespace, name)


CLASSES = {name: value for name, value in public_names() if inspect.isclass(value)}


def members_of(cls: Any) -> dict[str, Any]:
    """Also those of the private bases that a public class shares with another."""
    bases = [base for base in reversed(cls.__mro__) if base is cls or base.__name__.startswith("_")]
    return {member: value for base in bases for member, value in vars(base).items() if not member.startswith("_")}


def functions() -> Iterator[tuple[str, Any]]:
    for name, value in public_names():
        if inspect.isfunction(value):
            yield name, value
    for name, cls in CLASSES.items():
        for member, value in members_of(cls).items():
            function = inspect.unwrap(getattr(value, "__func__", value))
            if inspect.isfunction(function):
                yield f"{name}.{member}", function


FUNCTIONS = dict(functions())


def sections(value: Any) -> dict[str, str]:
    return dict(SECTION.findall((inspect.getdoc(value) or "") + "\n"))


def entries(value: Any, section: str) -> list[str]:
    return ENTRY.findall(sections(value).get(section, ""))


def summary(value: Any) -> str:
    return (inspect.getdoc(value) or "").partition("\n\n")[0]


def parameters(function: Any) -> list[str]:
    """As the `def` has them, without the fields that a signature names for completion."""
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    found = inspect.signature(
        types.FunctionType(function.__code__, {}, closure=function.__closure__)
    ).parameters.values()
    return [stars.get(each.kind, "") + each.name for each in found if each.name not in {"self", "cls"}]


def test_public_names_are_sorted_and_importable() -> None:
    assert replyio.__all__ == sorted(set(replyio.__all__))
    assert set(replyio.__all__) <= set(dir(replyio))
    for name in replyio.__all__:
        assert getattr(replyio, name) is not None


def test_names_imported_lazily_are_those_that_type_checkers_see() -> None:
    tree = ast.parse(Path(replyio.__file__).read_text(encoding="utf-8"))
    blocks = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    seen = {
        alias.asname or alias.name: node.module for node in imports if node.module != "typing" for alias in node.names
    }
    # The module is found too, but `from replyio import *` does not load it.
    assert sorted(set(seen) - {"sandbox"}) == replyio.__all__
    for name, module in seen.items():
        assert getattr(importlib.import_module(str(module)), name) is getattr(replyio, name)


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'ReplyClint'"):
        replyio.ReplyClint  # noqa: B018


@pytest.mark.parametrize("module", MODULES)
def test_modules_list_their_names_in_order_and_say_what_they_are(module: str) -> None:
    namespace = importlib.import_module(f"replyio.{module}")
    assert summary(namespace).endswith(".")
    if not module.startswith("_") and module != "pytest_plugin":
        assert namespace.__all__ == sorted(set(namespace.__all__))


@pytest.mark.parametrize("name", CLASSES)
def test_classes_have_a_summary_and_describe_their_members(name: str) -> None:
    cls = CLASSES[name]
    # Not the docstring that a dataclass or a base class would give it.
    assert cls.__doc__, f"{name} has no docstring of its own"
    assert not cls.__doc__.startswith(f"{cls.__name__}(")
    assert re.search(r"[.:]$", summary(cls))
    members = [member for member in vars(cls).get("__annotations__", {}) if not member.startswith("_")]
    if members:
        assert entries(cls, "Attributes") == members
    for member, value in members_of(cls).items():
        if isinstance(value, property):
            assert summary(value).endswith("."), f"{name}.{member} does not say what it is"


@pytest.mark.parametrize("name", CLASSES)
def test_constructors_describe_their_arguments(name: str) -> None:
    cls = CLASSES[name]
    maker = cls.__dict__.get("__init__") or inspect.unwrap(getattr(cls.__dict__.get("__new__"), "__func__", str))
    if inspect.isfunction(maker) and not dataclasses.is_dataclass(cls) and not issubclass(cls, enum.Enum):
        assert (entries(cls, "Args") or entries(maker, "Args")) == parameters(maker)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_describe_arguments_and_result(name: str) -> None:
    function = FUNCTIONS[name]
    assert summary(function).endswith("."), f"{name} has no summary"
    assert entries(function, "Args") == parameters(function)
    annotation = inspect.signature(function).return_annotation
    if annotation not in {"None", None, "NoReturn"}:
        assert sections(function).keys() & {"Returns", "Yields"}, f"{name} does not say what it returns"


def raises_something(name: str, function: Any) -> bool:
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    is_call = f"{name}_async" in FUNCTIONS or name.endswith("_async")
    return is_call or any(isinstance(node, ast.Raise) for node in ast.walk(tree))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_name_the_errors_they_raise(name: str) -> None:
    function = FUNCTIONS[name]
    named = entries(function, "Raises")
    if raises_something(name, function):
        assert named, f"{name} does not say what it raises"
    for error in named:
        assert issubclass(getattr(replyio, error, None) or getattr(builtins, error), BaseException)


def test_every_call_has_its_awaitable_twin_with_the_same_arguments() -> None:
    pairs = {name: FUNCTIONS.get(f"{name}_async") for name in FUNCTIONS if f"{name}_async" in FUNCTIONS}
    assert any(name.endswith(".update_contact_account") for name in pairs)
    for name, twin in pairs.items():
        assert inspect.signature(FUNCTIONS[name]).parameters == inspect.signature(twin).parameters  # type: ignore[arg-type]
