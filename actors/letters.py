"""What customers read: German templates, filled in."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from actors import german

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters["money"] = german.format_money
_TEMPLATES.filters["day"] = german.format_date


def render(template: str, **values: Any) -> str:
    """Fill a template in; in HTML, whatever the customer wrote is escaped."""
    return _TEMPLATES.get_template(template).render(**values)
