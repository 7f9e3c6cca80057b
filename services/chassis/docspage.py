"""The AsyncAPI document as one page for people: no script, no font, nothing from elsewhere.

Its style is allowed by its hash, so the page stands under the strictest Content-Security-Policy.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

Node = Mapping[str, Any]

_STYLE = """
:root{color-scheme:light dark;--line:#8885;--soft:#8881}
body{font:16px/1.5 system-ui,sans-serif;max-width:66rem;margin:0 auto;padding:1rem 1.25rem 4rem}
h1{margin:.5rem 0}h2{margin:2.5rem 0 .5rem;border-bottom:1px solid var(--line)}
nav a{margin-right:1rem}code,pre{font:13px/1.45 ui-monospace,monospace}
pre{background:var(--soft);padding:.75rem;overflow-x:auto;border-radius:4px}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:14px}
th,td{text-align:left;vertical-align:top;padding:.3rem .6rem .3rem 0;border-bottom:1px solid var(--line)}
details{border:1px solid var(--line);border-radius:4px;margin:.4rem 0;padding:.35rem .75rem}
summary{cursor:pointer}summary code{font-weight:600;font-size:14px}p{margin:.4rem 0}
#channels+.wide td:nth-child(3){min-width:17rem}
"""


def page(document: Node) -> tuple[bytes, str]:
    """The page of `document` and the Content-Security-Policy it needs."""
    info, parts = document["info"], _parts(document)
    nav = "".join(f'<a href="#{name}">{escape(title)}</a>' for name, (title, _) in parts.items())
    body = "".join(f'<h2 id="{name}">{escape(title)}</h2>{html}' for name, (title, html) in parts.items())
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(info["title"])}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{_STYLE}</style></head><body>'
        f"<h1>{escape(info['title'])}</h1><p>Protocol {escape(info['version'])}. Made from "
        f'<a href="/v1/asyncapi.json">/v1/asyncapi.json</a>; the schemas are listed at '
        f'<a href="/v1/contracts">/v1/contracts</a>.</p>{_prose(info["description"])}<nav>{nav}</nav>'
        f"{body}</body></html>"
    )
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return text.encode(), policy


def _parts(document: Node) -> dict[str, tuple[str, str]]:
    messages, schemas = document["components"]["messages"], document["components"]["schemas"]
    channels: Node = document["channels"]
    kinds = {name: one for name, one in channels.items() if "x-access" in one}
    subjects = {name: one for name, one in channels.items() if name.startswith("subject.")}
    socket = [messages[name] for name in channels["websocket"]["messages"]]
    answers = {name for operation in document["operations"].values() if operation["action"] == "receive"
               for name in map(_last, operation.get("messages", ()))}  # fmt: skip
    streamed = [messages[name] for name in channels["eventStream"]["messages"] if name.startswith("stream.")]
    return {
        "channels": ("Channels", _channels(kinds)),
        "events": ("Events", "".join(_subject(one, messages, schemas) for one in subjects.values())),
        "client": (
            "WebSocket: what a client says",
            "".join(_message(one, schemas) for one in socket if one["name"] in answers),
        ),
        "gateway": (
            "WebSocket: what the gateway says",
            "".join(_message(one, schemas) for one in socket if one["name"] not in answers),
        ),
        "stream": ("Event streams (SSE)", "".join(_message(one, schemas) for one in streamed)),
        "http": ("Addresses", _operations(document)),
        "access": ("Tokens", _security(document["components"]["securitySchemes"])),
        "errors": ("Errors", _errors(document)),
    }


def _channels(kinds: Node) -> str:
    rows = [
        (
            _code(one["address"]),
            _code(one["x-stream"]),
            "<br>".join(f"{_code(role)} {escape(rule)}" for role, rule in one["x-access"].items()),
            " ".join(_link(name) for name in one["messages"]),
        )
        for one in kinds.values()
    ]
    return _table(("Channel", "Stream", "Who sees what", "Events"), rows)


def _subject(channel: Node, messages: Node, schemas: Node) -> str:
    events = "".join(_message(messages[name], schemas, name) for name in channel["messages"])
    return f"<h3>{_code(channel['address'])}</h3><p>{_inline(channel['description'])}</p>{events}"


def _message(message: Node, schemas: Node, event: str | None = None) -> str:
    schema = _data_of(message, schemas)
    version = f" version {message['x-version']}" if event else ""
    link = f' <a href="/v1/contracts/{event.replace(".", "/")}">JSON Schema</a>' if event else ""
    shown = "".join(
        f"<pre>{escape(json.dumps(one['payload'], indent=2, ensure_ascii=False))}</pre>"
        for one in message.get("examples", ())
    )
    anchor = f' id="{escape(event)}"' if event else ""
    return (
        f"<details{anchor}><summary>{_code(message['title'])}{version} {_inline(message['summary'])}</summary>"
        f"{_fields(schema)}{shown}{link}</details>"
    )


def _data_of(message: Node, schemas: Node) -> Node:
    """What is worth a table: an event's data, another message whole."""
    name = _last(message["payload"])
    found: Node = schemas.get(f"{name}.data", schemas[name])
    return found


def _fields(schema: Node) -> str:
    required = set(schema.get("required", ()))
    rows = [
        (_code(name), _type(field), "required" if name in required else "", _inline(field.get("description", "")))
        for name, field in schema.get("properties", {}).items()
    ]
    return _table(("Field", "Form", "", ""), rows) if rows else ""


def _type(schema: Node) -> str:
    if "$ref" in schema:
        return _code(_last(schema))
    for keyword in ("anyOf", "allOf", "oneOf"):
        if keyword in schema:
            return " or ".join(_type(one) for one in schema[keyword])
    if "const" in schema or "enum" in schema:
        return " or ".join(_code(json.dumps(value)) for value in schema.get("enum", [schema.get("const")]))
    found = escape(str(schema.get("type", "anything")))
    if "items" in schema:
        found += f" of {_type(schema['items'])}"
    bounds = [f"{name} {schema[name]}" for name in _BOUNDS if name in schema]
    return found + (f" <small>{escape(', '.join(bounds))}</small>" if bounds else "")


_BOUNDS = ("format", "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems")


def _operations(document: Node) -> str:
    rows = []
    for operation in document["operations"].values():
        channel = document["channels"][_last(operation["channel"])]
        http = operation.get("bindings", {}).get("http")
        if http is None:
            continue
        servers = ", ".join(_last(one) for one in channel["servers"])
        query = ", ".join(http.get("query", {}).get("properties", ()))
        address = _code(f"{http['method']} {channel['address']}")
        rows.append((address, escape(servers), _inline(operation["summary"]), escape(query)))
    socket = document["channels"]["websocket"]
    rows.insert(0, (_code(f"WebSocket {socket['address']}"), "gateway", _inline(socket["description"]), ""))
    return _table(("Address", "Server", "", "Query"), rows)


def _security(schemes: Node) -> str:
    return _table(
        ("Way", "Form", ""),
        [(_code(name), escape(one["type"]), _inline(one["description"])) for name, one in schemes.items()],
    )


def _errors(document: Node) -> str:
    codes = [
        (_code(one["code"]), str(one["status"]), "yes" if one["retryable"] else "", _inline(one["message"]))
        for one in document["x-error-codes"]
    ]
    closes = [(_code(str(one["code"])), escape(one["reason"])) for one in document["x-close-codes"]]
    return (
        _table(("Code", "HTTP", "Retry helps", ""), codes)
        + "<h3>Close codes of a WebSocket</h3><p>4000-4099: do not come back. 4100-4199: back off, then resume. "
        + "4200-4299: resume at once.</p>"
        + _table(("Code", "Reason"), closes)
    )


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table; the cells are HTML already."""
    top = "".join(f"<th>{escape(one)}</th>" for one in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _link(event: str) -> str:
    return f'<a href="#{escape(event)}">{escape(event)}</a>'


def _prose(text: str) -> str:
    return "".join(f"<p>{_inline(part)}</p>" for part in text.strip().split("\n\n"))


def _inline(text: str) -> str:
    """Text with its `code` marked."""
    return "".join(
        _code(part) if index % 2 else escape(part) for index, part in enumerate(text.replace("\n", " ").split("`"))
    )


def _last(reference: Node) -> str:
    """The name at the end of a `$ref`."""
    name: str = reference["$ref"].rpartition("/")[2]
    return name
