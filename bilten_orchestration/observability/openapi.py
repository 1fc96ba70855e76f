"""What the health API offers: as OpenAPI 3.1, and as a page for people."""

from __future__ import annotations

import html
import json
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic.json_schema import models_json_schema

from bilten_orchestration.observability.documents import Health, Live, Ready, Refusal

_PATHS: dict[str, tuple[str, type, dict[str, str]]] = {
    "/health/live": (
        "Whether the watchdog does its work. Never wants the token.",
        Live,
        {"200": "It judges.", "503": "It does not."},
    ),
    "/health/ready": (
        "Whether every store answers. Never wants the token.",
        Ready,
        {"200": "Every one.", "503": "Not every one, or nobody knows."},
    ),
    "/health": (
        "Every store and every promise. With the token also what is wrong, in words.",
        Health,
        {"200": "Nothing is down or critical.", "503": "Something is."},
    ),
}


@cache
def document() -> bytes:
    """OpenAPI 3.1, JSON."""
    models = (Health, Live, Ready, Refusal)
    _, definitions = models_json_schema(
        [(model, "serialization") for model in models], ref_template="#/components/schemas/{model}"
    )
    refusal = {"description": "It wants the token.", "content": _json("Refusal")}
    paths: dict[str, Any] = {
        path: {
            "get": {
                "summary": summary,
                "responses": {
                    **{
                        code: {"description": said, "content": _json(model.__name__)}
                        for code, said in answers.items()
                    },
                    **({"401": refusal} if path == "/health" else {}),
                },
                "security": [{"token": []}, {}] if path == "/health" else [],
            }
        }
        for path, (summary, model, answers) in _PATHS.items()
    }
    paths["/metrics"] = {
        "get": {
            "summary": "The same as numbers, for Prometheus.",
            "responses": {
                "200": {
                    "description": "Text format 0.0.4.",
                    "content": {"text/plain": {"schema": {"type": "string"}}},
                },
                "401": refusal,
            },
            "security": [{"token": []}, {}],
        }
    }
    return json.dumps(
        {
            "openapi": "3.1.0",
            "info": {"title": "Bilten: health of the data platform", "version": _version()},
            "paths": paths,
            "components": {
                "schemas": definitions["$defs"],
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            },
        }
    ).encode()


def page() -> bytes:
    """The same for people, without scripts."""
    found = json.loads(document())
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>Bilten: health API</title>'
        "<style>:root{color-scheme:light dark}body{font:1rem/1.5 system-ui;max-width:60rem;margin:2rem auto;"
        "padding:0 1rem}td,th{text-align:left;vertical-align:top;padding:.2rem .8rem .2rem 0}</style>"
        f"<h1>{html.escape(found['info']['title'])}</h1>"
        '<p>As OpenAPI: <a href="/openapi.json">/openapi.json</a></p>'
    ]
    for path, methods in found["paths"].items():
        get = methods["get"]
        parts.append(f'<h2>GET <a href="{path}">{path}</a></h2><p>{html.escape(get["summary"])}</p><table>')
        parts += [
            f"<tr><th>{code}<td>{html.escape(each['description'])}" for code, each in get["responses"].items()
        ]
        parts.append("</table>")
    for name, schema in found["components"]["schemas"].items():
        parts.append(f"<h2>{name}</h2><p>{html.escape(schema.get('description', ''))}</p><table>")
        parts += [
            f"<tr><th>{html.escape(field)}<td>{html.escape(each.get('description', ''))}"
            for field, each in schema.get("properties", {}).items()
        ]
        parts.append("</table>")
    return "".join(parts).encode()


def _json(model: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{model}"}}}


def _version() -> str:
    try:
        return version("bilten-orchestration")
    except PackageNotFoundError:  # run from a checkout
        return "0"
