"""The Flask application: REST endpoints and the dashboard."""
