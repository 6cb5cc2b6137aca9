"""Calls the hooks of the middleware: those only that somebody overrides, most do nothing at most signals."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from dramatiq.middleware import AgeLimit, Callbacks, GroupCallbacks, Middleware, MiddlewareError, Pipelines
from dramatiq.results import Results

from pipeline.errors import ConfigurationError
from pipeline.middleware import group_callbacks, pipelines, retries, shutdown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.broker.broker import PostgresBroker
    from pipeline.broker.consumer import TaskProxy

Hook: TypeAlias = tuple[Middleware, Callable[..., None]]

#: Whose failure after a task would lose its result or what comes next.
_ESSENTIAL = (Callbacks, GroupCallbacks, Pipelines, Results)

#: Whether a middleware does nothing around a run that goes well, if its message has no options and its actor these.
_IDLE: Mapping[type, Callable[[Any, Mapping[str, Any]], bool]] = {
    AgeLimit: lambda middleware, options: not options.get("max_age", middleware.max_age),
    Callbacks: lambda _, options: not options.get("on_success"),
    group_callbacks.GroupCallbacks: lambda *_: True,
    pipelines.Pipelines: lambda *_: True,
    retries.Retries: lambda *_: True,
    shutdown.ShutdownNotifications: lambda *_: True,
}

_FAILURE = "Unexpected failure in %s of %r."


class Hooks:
    """The hooks of a broker's middleware, looked up once per signal."""

    def __init__(self, broker: PostgresBroker) -> None:
        self._broker = broker
        self._before: dict[str, list[Hook]] = {}
        self._after: dict[str, list[Hook]] = {}
        #: Those before and after a run that goes well, of actors whose message has no options.
        self._plain: dict[Any, tuple[list[Hook], list[Hook]]] = {}

    def forget(self) -> None:
        """Look again: the middleware has changed."""
        self._before.clear()
        self._after.clear()
        self._plain.clear()

    def any_around(self, signal: str) -> bool:
        """Tell whether a signal has hooks."""
        return bool(self._found(self._before, "before_" + signal) or self._found(self._after, "after_" + signal))

    def before_process(self, proxy: TaskProxy) -> None:
        """Call those before a run."""
        hooks = self._found(self._before, "before_process_message") if proxy.options else self._plain_of(proxy)[0]
        self._call_before(hooks, "process_message", proxy)

    def after_process(self, proxy: TaskProxy, result: Any, error: BaseException | None) -> None:
        """Call those after a run."""
        if error is not None:
            self.call_after("process_message", proxy, exception=error)
            return
        hooks = self._found(self._after, "after_process_message") if proxy.options else self._plain_of(proxy)[1]
        self._call_after(hooks, "process_message", proxy, result=result)

    def _plain_of(self, proxy: TaskProxy) -> tuple[list[Hook], list[Hook]]:
        actor = self._broker.actors.get(proxy.actor_name)
        plain = self._plain.get(actor)
        if plain is None:
            options = {} if actor is None else actor.options
            before, after = (
                [(each, hook) for each, hook in hooks if not _IDLE.get(type(each), _never)(each, options)]
                for hooks in (
                    self._found(self._before, "before_process_message"),
                    self._found(self._after, "after_process_message"),
                )
            )
            plain = self._plain[actor] = before, after
        return plain

    def call_before(self, signal: str, *args: Any, **kwargs: Any) -> None:
        """Call the hooks in the order of the middleware; what they raise on purpose reaches the caller."""
        self._call_before(self._found(self._before, "before_" + signal), signal, *args, **kwargs)

    def _call_before(self, hooks: list[Hook], signal: str, *args: Any, **kwargs: Any) -> None:
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
        self._call_after(self._found(self._after, "after_" + signal), signal, *args, **kwargs)

    def _call_after(self, hooks: list[Hook], signal: str, *args: Any, **kwargs: Any) -> None:
        for middleware, hook in hooks:
            try:
                hook(self._broker, *args, **kwargs)
            except Exception as error:
                if signal == "process_message" and isinstance(middleware, _ESSENTIAL):
                    args[0].task.capture.error = error
                self._broker.logger.critical(_FAILURE, "after_" + signal, middleware, exc_info=True)

    def _found(self, known: dict[str, list[Hook]], name: str) -> list[Hook]:
        hooks = known.get(name)
        if hooks is None:
            hooks = [(each, getattr(each, name)) for each in self._broker.middleware if _overrides(each, name)]
            if known is self._after:
                hooks.reverse()
            known[name] = hooks
        return hooks


def _never(*_: object) -> bool:
    return False


def _overrides(middleware: Any, name: str) -> bool:
    """Tell whether a middleware does something at a signal."""
    return getattr(type(middleware), name, None) is not getattr(Middleware, name, None) or name in vars(middleware)
