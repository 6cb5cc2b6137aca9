"""What a web server loads: ``gunicorn api.wsgi:app``. Loading it opens no connection."""

from api.app import DATABASE_SECONDS, create_app
from api.extensions import attached_to
from api.live.live import close_when_stopped
from pipeline import get_broker, logs

logs.configure(get_broker().settings)
# Commands, too, tell within three seconds that the database is away: somebody waits for the answer.
get_broker().pool.timeout_seconds = DATABASE_SECONDS
app = create_app()
close_when_stopped(attached_to(app).live)
