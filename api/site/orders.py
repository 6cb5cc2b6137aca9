"""Orders."""

from __future__ import annotations

import os
from pathlib import PurePath
from typing import BinaryIO, cast

from flask import Blueprint, abort, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import FileStorage

from actors.datasets import import_orders, store_dataset
from api.extensions import db
from api.limits import takes_uploads

blueprint = Blueprint("orders", __name__, url_prefix="/api/orders")


@blueprint.post("/import")
@takes_uploads
def import_file() -> ResponseReturnValue:
    """Take a CSV file of orders. The file and the task that imports it commit together.

    All that follows from it has the dataset as its correlation id.
    """
    file = _uploaded_file()
    dataset_id = store_dataset(db.session(), _name(file), cast("BinaryIO", file.stream))
    sent = import_orders.send_with_options(args=(dataset_id,), correlation_id=f"dataset:{dataset_id}")
    task_id = sent.message_id
    db.session.commit()
    status_url = url_for("pipeline.tasks.show_status", task_id=task_id)
    return {"task_id": task_id, "dataset_id": dataset_id, "status_url": status_url}, 202, {"Location": status_url}


def _uploaded_file() -> FileStorage:
    file = request.files.get("file")
    if file is None or not file.filename:
        abort(400, "Send a file: multipart/form-data with a part named file")
    if file.stream.seek(0, os.SEEK_END) == 0:
        abort(422, "The file is empty")
    file.stream.seek(0)
    return file


def _name(file: FileStorage) -> str:
    """Keep the last part of what the client calls the file, without what no text column can hold."""
    name = PurePath((file.filename or "").replace("\\", "/")).name
    return "".join(character for character in name if character.isprintable())[:200] or "orders.csv"
