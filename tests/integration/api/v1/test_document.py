"""The document of the REST API, as it is served."""

from __future__ import annotations

import json
import re
from typing import Any

from flask.testing import FlaskClient

from api import document


def test_the_document_is_served(client: FlaskClient) -> None:
    for path in ("/openapi.json", "/api/v1/openapi.json"):
        assert client.get(path).json == json.loads(document.stored())


def test_every_route_of_the_rest_api_is_in_the_document(client: FlaskClient) -> None:
    paths: Any = json.loads(document.stored())["paths"]
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in client.application.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.endpoint.startswith("pipeline.v1_")
    }

    assert routes == {(path, method) for path, item in paths.items() for method in item}


def test_people_get_a_page_that_loads_nothing_from_elsewhere(client: FlaskClient) -> None:
    page = client.get("/api/v1/docs")

    assert page.mimetype == "text/html"
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self';")
    assert "<script" not in page.text
    assert re.findall(r'(?:src|href)="([^#"][^"]*)"', page.text) == ["/api/v1/docs.css", "/api/v1/openapi.json"]
    assert client.get("/api/v1/docs.css").mimetype == "text/css"
    for path, item in json.loads(document.stored())["paths"].items():
        assert f"<code>{path}</code>" in page.text
        assert item["get"]["summary"][:30] in page.text.replace("&#39;", "'")


def test_links_within_the_page_lead_somewhere(client: FlaskClient) -> None:
    text = client.get("/api/v1/docs").text

    names = re.findall(r' id="([^"]+)"', text)
    assert len(names) == len(set(names))
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(names)
