"""What a web server loads: ``gunicorn api.wsgi:app``. Loading it opens no connection."""

from api.app import create_app
from api.extensions import attached_to
from api.live.live import close_when_stopped
from pipeline import get_broker, logs

logs.configure(get_broker().settings)
app = create_app()
close_when_stopped(attached_to(app).live)
