"""Tests of the OpenAPI document and of the documentation page."""

import re

import httpx


def test_openapi_document_has_both_media_types(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    for path in ("/register", "/verify", "/search"):
        content = document["paths"][path]["post"]["requestBody"]["content"]
        assert set(content) == {"application/json", "multipart/form-data"}
    assert client.get("/docs").status_code == 200


def test_documentation_page_loads_no_external_resource(client: httpx.Client) -> None:
    page = client.get("/docs").text
    sources = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert sources
    assert [source for source in sources if source.startswith("http")] == []
    assert all(client.get(source).status_code == 200 for source in sources)


def test_every_reference_in_the_openapi_document_resolves(client: httpx.Client) -> None:
    response = client.get("/openapi.json")
    components = response.json()["components"]
    for kind, name in re.findall(r'"#/components/(\w+)/([^"]+)"', response.text):
        assert name in components[kind]
    assert "$defs" not in response.text
    content = response.json()["paths"]["/search"]["post"]["requestBody"]["content"]
    assert next(iter(content)) == "multipart/form-data"
    assert components["schemas"]["SearchForm"]["properties"]["image"]["format"] == "binary"
