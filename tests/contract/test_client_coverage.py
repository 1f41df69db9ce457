"""The Python client has every operation, parameter and field of the OpenAPI document."""

import inspect
import re
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import httpx
from pydantic import BaseModel

from identity_registry import Registry
from identity_registry.requests import Listing, Request
from identity_registry.responses.base import Page

NOT_IN_THE_CLIENT = {"download_job_rows_jsonl", "download_job_rows_csv"}
"""Operations that return the content of `list_job_rows` in another format."""
OTHER_NAMES = {
    **dict.fromkeys(("enrol_archive", "enrol_folder"), "start_enrolment_job"),
    "enrol_embeddings": "start_embedding_enrolment_job",
    **dict.fromkeys(("group_archive", "group_folder", "group_identities"), "start_grouping_job"),
}
"""Operations of the client whose names differ from the operationId: one path accepts several kinds of bodies."""
API_NAMES = {
    "page_size": {"limit", "cursor"},
    "metadata_filter": {"filter"},
    "picture": {"image"},
    "pictures": {"image", "images"},
    "picture_a": {"image_a"},
    "picture_b": {"image_b"},
    "others": {"identities"},
}
"""Names in the API of parameters that the client names differently."""


def definitions() -> Iterator[tuple[str, Request[Any], Any]]:
    """Yields name, an example request and the response type of each operation of the client."""
    for name in dir(Registry):
        definition = getattr(getattr(Registry, name), "definition", None)
        if definition is None:
            continue
        required = [
            parameter.name
            for parameter in list(inspect.signature(definition).parameters.values())[1:]
            if parameter.default is parameter.empty
        ]
        arguments: dict[str, Any] = dict.fromkeys(required, "argument")
        built = definition(None, **arguments)
        hint = get_type_hints(definition)["return"]
        if isinstance(built, Listing):
            yield name, built.first, Page[get_args(hint)[0]]
        else:
            yield name, built, get_args(hint)[0]


def test_the_client_has_every_operation_with_every_parameter_and_field(client: httpx.Client) -> None:
    api = client.get("/openapi.json").json()
    operations = {
        operation["operationId"]: (method.upper(), re.sub(r"\{[^}]*\}", "{}", path), operation)
        for path, item in api["paths"].items()
        for method, operation in item.items()
    }
    found: list[str] = []
    covered = set()
    for name, request, document in definitions():
        operation_id = OTHER_NAMES.get(name, name)
        covered.add(operation_id)
        method, path, operation = operations[operation_id]
        assert (request.method, request.path.replace("argument", "{}")) == (method, path)
        parameters = {one["name"] for one in operation.get("parameters", []) if one["in"] == "query"}
        body = schema_of(api, operation.get("requestBody", {}).get("content", {}))
        found += [f"{name}({one})" for one in (parameters | body.get("properties", {}).keys()) - arguments_of(name)]
        responses = operation["responses"]
        content = next(responses[code] for code in sorted(responses) if code.startswith("2")).get("content", {})
        if "application/json" in content and document is not str:
            found += differences(name, api, schema_of(api, content), document)
    assert found == []
    assert operations.keys() - NOT_IN_THE_CLIENT == covered


def arguments_of(name: str) -> set[str]:
    """Returns the names that the parameters of a client's operation have in the API."""
    arguments = {*inspect.signature(getattr(Registry, name).definition).parameters}
    folder = {"folder", "encoding"} if OTHER_NAMES.get(name) else set()  # of an archive or a folder
    return arguments.union(folder, *(API_NAMES.get(one, set()) for one in arguments))


def schema_of(api: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    return resolved(api, content.get("application/json", {}).get("schema", {}))


def resolved(api: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = api["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def differences(place: str, api: dict[str, Any], schema: Any, kind: Any) -> list[str]:
    """Returns the fields of the schema and of the client's document that the other one lacks."""
    schema = resolved(api, schema)
    if "anyOf" in schema:
        schemas = [one for one in schema["anyOf"] if one.get("type") != "null"]
        return differences(place, api, schemas[0], kind) if len(schemas) == 1 else []
    kinds = [one for one in get_args(kind) if inspect.isclass(one) and issubclass(one, BaseModel)]
    if schema.get("type") == "array":
        return differences(f"{place}[]", api, schema["items"], kinds[0]) if kinds else []
    document = kind if inspect.isclass(kind) and issubclass(kind, BaseModel) else (kinds or [None])[0]
    if document is None or "properties" not in schema:
        return []
    properties = schema["properties"]
    if issubclass(document, Page):
        [items] = properties.keys() - {"next_cursor"}
        return differences(f"{place}.{items}", api, properties[items], document.model_fields["items"].annotation)
    missing = properties.keys() ^ document.model_fields.keys()
    inner = (
        differences(f"{place}.{name}", api, properties[name], field.annotation)
        for name, field in document.model_fields.items()
        if name in properties
    )
    return [f"{place}.{name}" for name in sorted(missing)] + [one for found in inner for one in found]
