"""What a web server loads: gunicorn, as ``pipeline web`` starts it, or another.

Loading it opens no connection, unless the server listens where others can reach it: then there must be a token.
"""

from api import bind
from api.app import DATABASE_SECONDS, create_app
from api.extensions import attached_to
from api.live.live import close_when_stopped
from pipeline import get_broker, logs

logs.configure(get_broker().settings)
# Commands, too, tell within three seconds that the database is away: somebody waits for the answer.
get_broker().pool.timeout_seconds = DATABASE_SECONDS
app = create_app()
close_when_stopped(attached_to(app).live)
bind.check()
