"""What the health API offers: as OpenAPI 3.1, and as a page for people."""

from __future__ import annotations

import html
import json
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic.json_schema import models_json_schema

from bilten_orchestration.observability.documents import Health, Live, Ready, Refusal
from bilten_orchestration.observability.status import markup

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
_PAGES: dict[str, tuple[str, str, str]] = {
    "/": ("The same for people. With `?refresh=<seconds>` it loads itself again.", "200", "HTML."),
    "/docs": ("What this API offers, for people.", "200", "HTML."),
    "/runbook/{name}": ("A document for who is on call, as `operations.md`.", "200", "HTML."),
    "/sign-in": ("Makes a browser ask for the token, always.", "303", "It was right: back to the page."),
}


@cache
def document() -> bytes:
    """OpenAPI 3.1, JSON."""
    models = (Health, Live, Ready, Refusal)
    _, definitions = models_json_schema(
        [(model, "serialization") for model in models], ref_template="#/components/schemas/{model}"
    )
    refusal = {"description": "It wants the token.", "content": _json("Refusal")}
    wanted: list[dict[str, list[str]]] = [{"token": []}, {"browser": []}, {}]
    page = {"text/html": {"schema": {"type": "string"}}}
    paths: dict[str, Any] = {
        path: {
            "get": {
                "summary": summary,
                "operationId": path.strip("/").replace("/", "_"),
                "responses": {
                    **{
                        code: {"description": said, "content": _json(model.__name__)}
                        for code, said in answers.items()
                    },
                    **({"401": refusal} if path == "/health" else {}),
                },
                "security": wanted if path == "/health" else [],
            }
        }
        for path, (summary, model, answers) in _PATHS.items()
    }
    paths["/metrics"] = {
        "get": {
            "summary": "The same as numbers, for Prometheus.",
            "operationId": "metrics",
            "responses": {
                "200": {
                    "description": "Text format 0.0.4.",
                    "content": {"text/plain": {"schema": {"type": "string"}}},
                },
                "401": refusal,
            },
            "security": wanted,
        }
    }
    for path, (summary, code, said) in _PAGES.items():
        paths[path] = {
            "get": {
                "summary": summary,
                "operationId": path.strip("/").partition("/")[0] or "status",
                "responses": {
                    code: {"description": said, **({"content": page} if code == "200" else {})},
                    "401": refusal,
                },
                "security": wanted,
            }
        }
    runbook = paths["/runbook/{name}"]["get"]
    runbook["responses"]["404"] = {"description": "There is no such document.", "content": _json("Refusal")}
    runbook["parameters"] = [
        {
            "name": "name",
            "in": "path",
            "required": True,
            "schema": {"type": "string"},
            "example": "operations.md",
        }
    ]
    return json.dumps(
        {
            "openapi": "3.1.0",
            "info": {"title": "Bilten: health of the data platform", "version": _version()},
            "paths": paths,
            "components": {
                "schemas": definitions["$defs"],
                "securitySchemes": {
                    "token": {"type": "http", "scheme": "bearer"},
                    "browser": {
                        "type": "http",
                        "scheme": "basic",
                        "description": "The token is the password.",
                    },
                },
            },
        }
    ).encode()


def page() -> bytes:
    """The same for people, without scripts."""
    found = json.loads(document())
    parts = [
        '<header><nav aria-label="Elsewhere"><ul><li><a href="/">Status</a></li></ul></nav>'
        f"<h1>{html.escape(found['info']['title'])}</h1></header><main>"
        '<p>As OpenAPI: <a href="/openapi.json">/openapi.json</a></p>'
    ]
    for path, methods in found["paths"].items():
        get = methods["get"]
        rows = [(code, each["description"]) for code, each in get["responses"].items()]
        shown = html.escape(path) if "{" in path else f'<a href="{path}">{path}</a>'
        parts.append(f"<h2>GET {shown}</h2><p>{html.escape(get['summary'])}</p>{_table('code', rows)}")
    for name, schema in found["components"]["schemas"].items():
        fields = [
            (field, each.get("description", "")) for field, each in schema.get("properties", {}).items()
        ]
        described = html.escape(schema.get("description", ""))
        parts.append(f"<h2>{name}</h2><p>{described}</p>{_table('field', fields)}")
    parts.append("</main>")
    return markup.document(found["info"]["title"], "".join(parts))


def _table(first: str, rows: list[tuple[str, str]]) -> str:
    lines = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th><td>{html.escape(said)}</td></tr>'
        for name, said in rows
    )
    return (
        f'<table><thead><tr><th scope="col">{first}</th><th scope="col">meaning</th></tr></thead>'
        f"<tbody>{lines}</tbody></table>"
    )


def _json(model: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{model}"}}}


def _version() -> str:
    try:
        return version("bilten-orchestration")
    except PackageNotFoundError:  # run from a checkout
        return "0"
