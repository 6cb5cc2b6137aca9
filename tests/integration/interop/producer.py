"""A program that knows nothing of us: an unmodified dramatiq-pg broker, told by lines of JSON what to do.

Started with ``python producer.py URL``; answers each line with one.
"""

import json
import sys
from typing import Any

import dramatiq
import dramatiq_pg
from dramatiq.results import ResultMissing, ResultTimeout


def main(url: str) -> None:
    broker = dramatiq_pg.PostgresBroker(url=url)
    dramatiq.set_broker(broker)
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_do(broker, **json.loads(line))) + "\n")
        sys.stdout.flush()


def _do(broker: Any, op: str, **request: Any) -> Any:
    if op == "send":
        delay = request.pop("delay", None)
        return broker.enqueue(_message(**request), delay=delay).message_id
    if op == "chain":
        return dramatiq.pipeline([_message(**each) for each in request["messages"]]).run().messages[-1].message_id
    try:
        message = _message(actor="any", message_id=request["message_id"])
        return {"result": broker.backend.get_result(message, block=request["block"], timeout=request["timeout"])}
    except (ResultMissing, ResultTimeout) as error:
        return {"error": type(error).__name__}


def _message(*, actor: str, args: Any = (), queue: str = "default", options: Any = None, **ids: Any) -> Any:
    return dramatiq.Message(
        queue_name=queue, actor_name=actor, args=tuple(args), kwargs={}, options=dict(options or {}), **ids
    )


if __name__ == "__main__":
    main(sys.argv[1])
