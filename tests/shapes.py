"""Checks annotated shapes at run time: arguments, fields and results of functions must have the shapes of `types`.

jaxtyping binds the letters of one call: where ``Z`` means two numbers, the call fails.
"""

import functools
import importlib
import inspect
import pkgutil
import sys
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from jaxtyping import AbstractArray, jaxtyped


class ShapeError(TypeError):
    pass


def matches(value: Any, hint: Any) -> bool:
    """Whether a value has the shape that its annotation names. Only shapes, tuples and unions are checked."""
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return isinstance(value, hint)
    parts = typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        return any(matches(value, part) for part in parts)
    if typing.get_origin(hint) is tuple and isinstance(value, tuple) and len(parts) == len(value):
        return all(matches(item, part) for item, part in zip(value, parts, strict=True))
    return value is None if hint is types.NoneType else True


def with_shapes(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` with its annotated shapes checked at each call."""
    signature = inspect.signature(function)
    hints: dict[str, Any] = {}

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        if not hints:  # annotations are strings: names that exist for type checkers alone are not checked
            for name, text in function.__annotations__.items():
                try:
                    hints[name] = eval(text, function.__globals__) if isinstance(text, str) else text
                except NameError:
                    hints[name] = Any
        bound = signature.bind(*args, **kwargs).arguments
        with jaxtyped("context"):
            for name, value in bound.items():
                check(function, name, value, hints.get(name, Any))
            result = function(*args, **kwargs)
            check(function, "return", result, hints.get("return", Any))
        return result

    return checked


def check(function: Callable[..., Any], name: str, value: Any, hint: Any) -> None:
    if not matches(value, hint):
        shape = tuple(value.shape) if hasattr(value, "shape") else type(value).__name__
        raise ShapeError(f"{function.__module__}.{function.__qualname__}: {name} is {shape}, annotated as {hint}")


def functions_of(package: str) -> Iterator[tuple[Any, str, Callable[..., Any]]]:
    """Functions and methods of a package with the module or class that holds them."""
    root = importlib.import_module(package)
    names = [package, *(m.name for m in pkgutil.walk_packages(root.__path__, f"{package}."))]
    for module in map(importlib.import_module, names):
        own = [value for value in vars(module).values() if getattr(value, "__module__", "") == module.__name__]
        for holder in [module, *(value for value in own if isinstance(value, type))]:
            for name, value in list(vars(holder).items()):
                if inspect.isfunction(value) and value.__module__ == module.__name__ and value.__annotations__:
                    yield holder, name, value


@pytest.fixture(scope="package", autouse=True)
def annotated_shapes() -> Iterator[None]:
    """Check the shapes of all functions of models and training while the tests of a package run."""
    with pytest.MonkeyPatch.context() as patch:
        for package in ("cinesynth.models", "cinesynth.training"):
            for holder, name, function in functions_of(package):
                checked = with_shapes(function)
                patch.setattr(holder, name, checked)
                if inspect.ismodule(holder):  # others have imported it by now
                    for other in [m for key, m in sys.modules.items() if key.startswith(("cinesynth.", "tests."))]:
                        for alias, value in list(vars(other).items()):
                            if value is function:
                                patch.setattr(other, alias, checked)
        yield
