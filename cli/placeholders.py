"""Stands in for packages that are not installed, so that the help of a command needs nothing that the command needs.

A command's options are read from its function, and the module of that function imports what the command works with.
While these placeholders are there, such a module can be imported, but nothing in it runs: `cli.main` puts a function in
the place of the command that only says what is missing.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class _Kind(type):
    """A class that may be a base, stand in an annotation or decorate, and whose members are such classes too."""

    def __getattr__(cls, name: str) -> "_Kind":
        return _kind(name)

    def __getitem__(cls, _: object) -> "_Kind":
        return cls

    # Python would otherwise take what has items for an endless list.
    def __iter__(cls) -> Iterator[object]:
        return iter(())


def _kind(name: str) -> _Kind:
    if name.startswith("__"):
        raise AttributeError(name)
    members = {"__init__": lambda *_, **__: None, "__call__": lambda _, decorated=None, *__, **___: decorated}
    return _Kind(name, (), members)


class _Placeholder(ModuleType):
    def __getattr__(self, name: str) -> _Kind:
        return _kind(name)


class _Finder(MetaPathFinder, Loader):
    """Finds whatever no other finder found, and is neither a part of this project nor of another system's Python."""

    def __init__(self, ours: frozenset[str]) -> None:
        self._ours = ours

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        package = fullname.partition(".")[0]
        is_known = package in self._ours or package in sys.stdlib_module_names
        return None if is_known else ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Placeholder(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing in it."""


@contextmanager
def placeholders(ours: frozenset[str]) -> Iterator[None]:
    """Whatever is imported meanwhile and is not installed is a placeholder, except for the packages in `ours`."""
    finder = _Finder(ours)
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
