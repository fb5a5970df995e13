"""grpcio's asyncio server, mended: a call of a method whose name is no UTF-8 would end it, for everybody and for good.

grpcio decodes the name of a method in the loop that accepts calls, where an error ends the server. Calls of registered
methods arrive in queues of their own, with a name that is known; this class answers all others itself and never decodes
their names. It relies on names that are private to grpcio, so `pyproject.toml` pins the minor version, and a test sends
such a call.
"""

import asyncio
import logging
from typing import Any

from grpc._cython import cygrpc

# What serves a call, and how long the end of those may take that were cancelled.
CALL = "_schedule_rpc_coro"
LINGER_S = 0.2


def is_worth_a_line(record: logging.LogRecord) -> bool:
    """A filter that drops grpcio's tracebacks for metadata that is no UTF-8, and for clients that leave early."""
    return not str(record.msg).startswith(("Invalid encoding", "ExecuteBatchError raised in core"))


class Core(cygrpc.AioServer):  # type: ignore[misc]
    """For methods that are registered before it starts."""

    def _make_request_call_future(self, method: bytes | None) -> "asyncio.Future[Any]":
        if method is None:
            return asyncio.get_running_loop().create_task(self._refuse_unknown_methods())
        registered: asyncio.Future[Any] = super()._make_request_call_future(method)
        return registered

    async def shutdown(self, grace: float | None) -> None:
        """Ends all calls after `grace` seconds, and waits for their tasks, which would log tracebacks if they were left
        to the end of the event loop."""
        await super().shutdown(grace)
        serving = [task for task in asyncio.all_tasks() if getattr(task.get_coro(), "__name__", "") == CALL]
        if serving:
            await asyncio.wait(serving, timeout=LINGER_S)

    async def _refuse_unknown_methods(self) -> None:
        """Until the server stops: answers UNIMPLEMENTED."""
        loop = asyncio.get_running_loop()
        # The loop itself keeps only weak references to tasks.
        answering = set()
        while True:
            call = await self._request_call()
            refusal = cygrpc._handle_rpc("unknown", _Nothing, (), call, loop, False)
            task = loop.create_task(cygrpc._schedule_rpc_coro(refusal, call, loop, "unknown"))
            answering.add(task)
            task.add_done_callback(answering.discard)


class _Nothing:
    """Looks a method up, as grpcio asks for it."""

    @staticmethod
    def resolve_handler(_: object) -> None:
        return None
