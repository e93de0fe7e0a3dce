"""/docs: the OpenAPI document as one plain page, which loads nothing from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from fastapi import FastAPI
from starlette.responses import HTMLResponse

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font: 13px/1.4 ui-monospace, monospace; }
pre { background: #8881; padding: .7rem; overflow-x: auto; }
summary { cursor: pointer; } details { border-top: 1px solid #8884; padding: .4rem 0; }
:root { color-scheme: light dark; }
"""


def add_docs_page(app: FastAPI) -> None:
    """Serve the page; it is no part of the document that it shows."""

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(render(app.openapi()))


def render(document: Mapping[str, Any]) -> str:
    """The page of an OpenAPI document."""
    title = escape(document["info"]["title"])
    operations = "\n".join(_operations(document["paths"]))
    schemas = "\n".join(
        _section(f"<code>{escape(name)}</code>", f"<pre>{_json(schema)}</pre>", id=name)
        for name, schema in document["components"]["schemas"].items()
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title} API</title>'
        f"<style>{_STYLE}</style><h1>{title} API</h1>"
        f'<p>For programs: <a href="/openapi.json">openapi.json</a>.</p>{operations}<h2>Schemas</h2>{schemas}'
    )


def _operations(paths: Mapping[str, Any]) -> Iterator[str]:
    for path, methods in paths.items():
        for method, operation in methods.items():
            head = (
                f"<code><b>{method.upper()}</b> {escape(path)}</code> {escape(operation.get('summary', ''))}"
            )
            yield _section(head, "".join(_body(operation)))


def _body(operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"<p>{escape(operation.get('description', ''))}</p>"
    for parameter in operation.get("parameters", ()):
        text = escape(parameter.get("description", ""))
        yield f"<p><code>{escape(parameter['name'])}</code> ({parameter['in']}) {text}</p>"
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<p>Takes <code>{escape(media_type)}</code>: {_schema(content)}</p>"
    for status, response in operation["responses"].items():
        shapes = ", ".join(_schema(content) for content in response.get("content", {}).values())
        yield f"<p><b>{status}</b> {escape(response['description'])} {shapes}</p>"


def _schema(content: Mapping[str, Any]) -> str:
    name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
    return f'<a href="#{escape(name)}">{escape(name)}</a>' if name else ""


def _section(head: str, body: str, *, id: str = "") -> str:
    anchor = f' id="{escape(id)}"' if id else ""
    return f"<details{anchor}><summary>{head}</summary>{body}</details>"


def _json(value: object) -> str:
    return escape(json.dumps(value, indent=2))
