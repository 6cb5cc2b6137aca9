"""A run in the caller's own thread: what Dramatiq's worker thread does with a message, without a worker thread."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any

from dramatiq.asyncio import get_event_loop_thread
from dramatiq.middleware import SkipMessage

from pipeline.errors import TaskFailed

if TYPE_CHECKING:
    from dramatiq import Actor

    from pipeline.broker.broker import PostgresBroker
    from pipeline.broker.consumer import TaskProxy
    from pipeline.broker.outcome import Conclusion


def process(broker: PostgresBroker, proxy: TaskProxy) -> None:
    """Run a task through all hooks of the broker, and leave its conclusion at the proxy.

    Raises:
        KeyboardInterrupt: And whatever else is meant to end the program; the task has failed with it.
    """
    try:
        _run(broker, proxy)
    finally:
        _acknowledge(broker, proxy)


def _run(broker: PostgresBroker, proxy: TaskProxy) -> None:
    try:
        broker.emit_before("process_message", proxy)
        result = None
        if not proxy.failed:
            result = _call(broker.get_actor(proxy.actor_name), proxy)
        broker.emit_after("process_message", proxy, result=result)
    except SkipMessage as skipped:
        if proxy.failed:
            proxy.stuff_exception(skipped)
        broker.emit_after("skip_message", proxy)
    except BaseException as error:
        proxy.stuff_exception(error)
        broker.emit_after("process_message", proxy, exception=error)
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
            raise


def _acknowledge(broker: PostgresBroker, proxy: TaskProxy) -> None:
    if proxy.failed:
        broker.emit_before("nack", proxy)
        broker.emit_after("nack", proxy)  # hands it to the hub when the hooks have stored the failure's result
    else:
        broker.emit_before("ack", proxy)
        broker.hub.put(proxy)
        broker.emit_after("ack", proxy)


def _call(actor: Actor[..., Any], proxy: TaskProxy) -> Any:
    """Call the actor; an async one on a loop of its own, in a thread, since the caller may be inside a loop."""
    fn = getattr(actor.fn, "__wrapped__", None)
    if not iscoroutinefunction(fn) or get_event_loop_thread() is not None:
        return actor(*proxy.args, **proxy.kwargs)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(copy_context().run, lambda: asyncio.run(fn(*proxy.args, **proxy.kwargs))).result()


def error_of(conclusion: Conclusion) -> BaseException | None:
    """Return the error that a run ended with: the one that was raised, or what became known of it otherwise."""
    raised: BaseException | None = conclusion.proxy._exception  # noqa: SLF001 - Dramatiq has no name for reading it
    told = json.loads(conclusion.extra or "{}").get("error")
    if raised is not None or told is None:
        return raised
    return TaskFailed(conclusion.proxy.message_id, told["type"], told["message"])
