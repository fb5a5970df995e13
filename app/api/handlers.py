"""Which handler answers a request on the short way."""

from collections.abc import Callable, Iterable

from app.api.call import Handler


class Handlers:
    """The handlers of a service by the paths of their requests, with the prefix that a proxy may leave or without."""

    def __init__(self, root_path: str, handlers: Iterable[Handler], find: Callable[[bytes], Handler | None]) -> None:
        """`find` makes the handler of a path that is not one of the `handlers`', if it has one."""
        self._root, self._find = root_path.encode(), find
        self.by_path = {root + each.path.encode(): each for each in handlers for root in {b"", self._root}}

    def get(self, path: bytes) -> Handler | None:
        return self.by_path.get(path) or self._find(path.removeprefix(self._root))
