"""The OpenAPI document: that of FastAPI, corrected where our errors differ from its own."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.routing import compile_path

from comemory.server.schemas import ErrorResponse

REFUSED_ADDRESS = {"414": "The URL is too long."}
REFUSED_BODIES = {"400": "The body is not JSON.", "413": "The body is too large."}
_OWN = ("HTTPValidationError", "ValidationError")


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """The document of an application whose errors are all a `ErrorResponse`."""
    document = FastAPI.openapi(app)
    schemas = document["components"]["schemas"]
    if any(name in schemas for name in _OWN):
        for _, operation in operations(document):
            _correct(operation)
        for name in _OWN:
            schemas.pop(name, None)
    return document


def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Each operation with its path."""
    return [(path, operation) for path, methods in document["paths"].items() for operation in methods.values()]


def methods_of(document: dict[str, Any], path: str) -> list[str]:
    """The methods of a path, none where there is no such path; a path without variables comes before one that matches.

    >>> methods_of({"paths": {"/events/{id}": {"get": {}, "delete": {}}}}, "/events/7")
    ['DELETE', 'GET']
    """
    found = {known: methods for known, methods in document["paths"].items() if compile_path(known)[0].match(path)}
    fewest = min((known.count("{") for known in found), default=0)
    return sorted(
        {method.upper() for known, methods in found.items() if known.count("{") == fewest for method in methods}
    )


def _correct(operation: dict[str, Any]) -> None:
    refusal = {"application/json": {"schema": {"$ref": f"#/components/schemas/{ErrorResponse.__name__}"}}}
    answers = operation["responses"]
    if "422" in answers:
        answers["422"]["content"] = refusal
    refused = {**REFUSED_ADDRESS, **(REFUSED_BODIES if "requestBody" in operation else {})}
    for status, text in refused.items():
        answers.setdefault(status, {"description": text, "content": refusal})
