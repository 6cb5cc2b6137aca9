"""Calls the hooks of the middleware: those only that somebody overrides, most do nothing at most signals."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from dramatiq.middleware import Callbacks, GroupCallbacks, Middleware, MiddlewareError, Pipelines
from dramatiq.results import Results

from pipeline.errors import ConfigurationError

if TYPE_CHECKING:
    from pipeline.broker.broker import PostgresBroker

Hook: TypeAlias = tuple[Middleware, Callable[..., None]]

#: Whose failure after a task would lose its result or what comes next.
_ESSENTIAL = (Callbacks, GroupCallbacks, Pipelines, Results)

_FAILURE = "Unexpected failure in %s of %r."


class Hooks:
    """The hooks of a broker's middleware, looked up once per signal."""

    def __init__(self, broker: PostgresBroker) -> None:
        self._broker = broker
        self._before: dict[str, list[Hook]] = {}
        self._after: dict[str, list[Hook]] = {}

    def forget(self) -> None:
        """Look again: the middleware has changed."""
        self._before.clear()
        self._after.clear()

    def call_before(self, signal: str, *args: Any, **kwargs: Any) -> None:
        """Call the hooks in the order of the middleware; what they raise on purpose reaches the caller."""
        hooks = self._before.get(signal)
        if hooks is None:
            hooks = self._before[signal] = self._find("before_" + signal)
        for middleware, hook in hooks:
            try:
                hook(self._broker, *args, **kwargs)
            except (MiddlewareError, ConfigurationError):
                raise
            except Exception:
                self._broker.logger.critical(_FAILURE, "before_" + signal, middleware, exc_info=True)

    def call_after(self, signal: str, *args: Any, **kwargs: Any) -> None:
        """Call the hooks in reverse order.

        Dramatiq swallows their exceptions, and so do we; but where a hook of Dramatiq's makes a result or a next step,
        its exception becomes the task's own, or the task would have succeeded with its next step gone.
        """
        hooks = self._after.get(signal)
        if hooks is None:
            hooks = self._after[signal] = self._find("after_" + signal)[::-1]
        for middleware, hook in hooks:
            try:
                hook(self._broker, *args, **kwargs)
            except Exception as error:
                if signal == "process_message" and isinstance(middleware, _ESSENTIAL):
                    args[0].task.capture.error = error
                self._broker.logger.critical(_FAILURE, "after_" + signal, middleware, exc_info=True)

    def _find(self, name: str) -> list[Hook]:
        return [(each, getattr(each, name)) for each in self._broker.middleware if _overrides(each, name)]


def _overrides(middleware: Any, name: str) -> bool:
    """Tell whether a middleware does something at a signal."""
    return getattr(type(middleware), name, None) is not getattr(Middleware, name, None) or name in vars(middleware)
