"""What must hold for a schedule before it is written, lest a daemon finds at two in the morning that it does not."""

from __future__ import annotations

import re
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from dramatiq.encoder import JSONEncoder
from dramatiq.errors import ActorNotFound

from pipeline.broker.messages import PRIORITIES, encode_json
from pipeline.broker.signatures import signature_of
from pipeline.errors import MessageNotEncodable, ScheduleInvalid
from pipeline.runtime import our_broker
from pipeline.text import clean
from scheduler import timing
from scheduler.messages import IN_ORDER, encoded

if TYPE_CHECKING:
    from dramatiq import Actor

    from scheduler.definition import Definition

MISSED = ("skip", "once", "all")
OVERLAP = ("allow", "skip", "queue", "cancel")

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9._-]{0,99}")
#: As Dramatiq has it; names that end so are those of its delay and dead-letter queues.
_QUEUE = re.compile(r"[a-zA-Z_][a-zA-Z0-9._-]*")
_NO_QUEUES = (".DQ", ".XQ")
_LONGEST_DESCRIPTION = 1000
_DAY_SECONDS = 86_400
#: What has a field of its own, or no meaning for a schedule.
_NO_OPTIONS = {
    "tags": "that is what tags is for",
    "priority": "that is what priority is for",
    "queue_name": "that is what queue is for",
    "delay": "its tasks are due with it; jitter lets them begin later",
    "schedule": "its tasks have its name there",
    "due_at": "its tasks have their instant there",
}


def check(schedule: Definition) -> None:
    """Raise ``ScheduleInvalid``, which names schedule and field, if anything about a schedule makes no sense."""
    try:
        _check_name(schedule)
        timing.check(schedule.timing)
        _check_policies(schedule)
        _check_place(schedule)
        _check_options(schedule)
        actor = _find_actor(schedule.actor)
        _check_json(schedule)
        _check_arguments(schedule, actor)
        _check_message(schedule)
    except ScheduleInvalid as error:
        raise error.of(schedule.name) from None


def _check_name(schedule: Definition) -> None:
    if not _NAME.fullmatch(schedule.name):
        raise ScheduleInvalid(
            "name", f"{schedule.name!r} is not 1 to 100 of A-Z a-z 0-9 . _ -, beginning with a letter or _"
        )
    if len(schedule.description) > _LONGEST_DESCRIPTION or clean(schedule.description) != schedule.description:
        raise ScheduleInvalid("description", f"it is not a text of {_LONGEST_DESCRIPTION} characters at most")


def _check_policies(schedule: Definition) -> None:
    for field, values in (("missed", MISSED), ("overlap", OVERLAP)):
        if (value := getattr(schedule, field)) not in values:
            raise ScheduleInvalid(field, f"{value!r} is none of {', '.join(values)}")
    if schedule.max_age_seconds is not None and schedule.missed != "all":
        raise ScheduleInvalid("max_age", f"it goes with missed=all, and this has missed={schedule.missed}")
    for field, least, value in (("grace", 1, schedule.grace_seconds), ("jitter", 0, schedule.jitter_seconds)):
        if not least <= value <= _DAY_SECONDS:
            raise ScheduleInvalid(field, f"{value} s is not between {least} s and a day")


def _check_place(schedule: Definition) -> None:
    queue, priority = schedule.queue, schedule.priority
    if queue is not None and (not _QUEUE.fullmatch(queue) or queue.endswith(_NO_QUEUES)):
        raise ScheduleInvalid(
            "queue", f"{queue!r} is not a name of a queue: letters, digits, . _ - and a letter or _ at first"
        )
    if priority is not None and priority not in PRIORITIES:
        raise ScheduleInvalid("priority", f"{priority} is not between {PRIORITIES[0]} and {PRIORITIES[-1]}")


def _check_options(schedule: Definition) -> None:
    for name, reason in _NO_OPTIONS.items():
        if name in schedule.options:
            raise ScheduleInvalid("options", f"{name}: {reason}")
    if schedule.overlap in IN_ORDER and "ordering_key" in schedule.options:
        raise ScheduleInvalid("options", f"ordering_key: overlap={schedule.overlap} brings its own")


def _find_actor(name: str) -> Actor[..., Any]:
    broker = our_broker()
    try:
        actor: Actor[..., Any] = broker.get_actor(name)
    except ActorNotFound:
        close = get_close_matches(name, broker.get_declared_actors(), n=3, cutoff=0.7)
        hint = (
            f"did you mean {' or '.join(close)}?" if close else "PIPELINE_SCHEDULES names the modules that bring actors"
        )
        raise ScheduleInvalid("actor", f'this program has no actor "{name}"; {hint}') from None
    return actor


def _check_json(schedule: Definition) -> None:
    """See that the table can hold the values: plain JSON, whatever encoder messages have."""
    limit = our_broker().settings.message_limit_bytes
    for field in ("args", "kwargs", "options"):
        try:
            encode_json(getattr(schedule, field), what="it", limit_bytes=limit, encoder=JSONEncoder())
        except MessageNotEncodable as error:
            raise ScheduleInvalid(field, str(error)) from None


def _check_arguments(schedule: Definition, actor: Actor[..., Any]) -> None:
    """See that the actor can be called with them."""
    signature = signature_of(actor.fn)
    try:
        signature.bind(*schedule.args, **schedule.kwargs)
    except TypeError as error:
        unknown = schedule.kwargs and "keyword" in str(error)
        parameters = [each.replace(annotation=each.empty) for each in signature.parameters.values()]
        plain = signature.replace(parameters=parameters, return_annotation=signature.empty)
        field = "kwargs" if unknown else "args"
        raise ScheduleInvalid(field, f"{actor.actor_name}{plain} cannot be called so: {error}") from None


def _check_message(schedule: Definition) -> None:
    """Make the message, first without labels and options, so that the error is about the right one."""
    plain = replace(schedule, tags=[], options={})
    for field, message in (("args", plain), ("tags", replace(plain, tags=schedule.tags)), ("options", schedule)):
        try:
            encoded(message)
        except MessageNotEncodable as error:
            raise ScheduleInvalid(field, str(error)) from None
