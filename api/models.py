"""What people ask about tasks, as objects that are read only: ``db.session.get(AsyncTask, task_id)``."""

from pipeline.integrations.async_task import AsyncTask

__all__ = ["AsyncTask"]
