"""Code samples of calls, from one template per language (`templates/docs/samples/`). Tests run each of them.

The samples read the API's URL, the key and the path parameters from the environment.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from django.template import Context, Engine
from drf_spectacular.utils import OpenApiRequest

from config.env import BASE_DIR
from config.openapi.operations import JSON

_API = "https://compliance.example.com/api/v1/chatbots/acme"
# Template, name for highlighting, display name.
_LANGUAGES = (("curl", "Shell", "curl"), ("python", "Python", "Python"), ("javascript", "JavaScript", "JavaScript"))
_LINE = 64

_FORM = "multipart/form-data"


def samples_of(requests: Mapping[str, OpenApiRequest], *, path: str, signed: bool) -> list[dict[str, str]]:
    """Return the samples of a POST as `x-codeSamples` holds them. `path` is the document's."""
    below = path.split("{slug}/", 1)[1]
    if JSON in requests:
        return post_samples(below, body=requests[JSON].examples[0].value, signed=signed)
    form = {"message_id": requests[_FORM].examples[0].value["message_id"], "type": "image/jpeg"}
    return post_samples(below, form=form, signed=signed)


def post_samples(
    below: str, *, body: Any = None, form: Mapping[str, str] | None = None, signed: bool, api: str = _API
) -> list[dict[str, str]]:
    """Return the samples of a POST to the path `below` of `api`, the URL of a chatbot's API."""
    in_path = [name.upper() for name in re.findall(r"{(\w+)}", below)]
    context = {
        "api": api,
        "signed": signed,
        "variables": ["SECRET" if signed else "TOKEN", *in_path, *(["FILE"] if form else [])],
        "path": {
            "bash": _with_variables(below, "${}"),
            "python": _with_variables(below, "{{os.environ['{}']}}"),
            "javascript": _with_variables(below, "${{{}}}"),
        },
        "body": None if body is None else _render(body),
        "form": form,
    }
    return [
        {"lang": language, "label": label, "source": _rendered(template, context)}
        for template, language, label in _LANGUAGES
    ]


def _rendered(template: str, context: Mapping[str, Any]) -> str:
    # Source code, not HTML.
    engine = Engine(dirs=[str(BASE_DIR / "templates")], autoescape=False)
    text = engine.get_template(f"docs/samples/{template}.txt").render(Context(context, autoescape=False))
    # A brace before one of the template's needs a space in between.
    return text.replace("{ \n", "{\n").strip()


def _with_variables(path: str, form: str) -> str:
    return re.sub(r"{(\w+)}", lambda match: form.format(match[1].upper()), path)


def _render(value: Any) -> dict[str, str]:
    return {
        "bash": "'" + _literal(value, {True: "true", False: "false", None: "null"}).replace("'", "'\\''") + "'",
        "python": _literal(value, {True: "True", False: "False", None: "None"}),
        "javascript": _literal(value, {True: "true", False: "false", None: "null"}, indent=2),
    }


def _literal(value: Any, words: Mapping[Any, str], *, indent: int = 4, depth: int = 0) -> str:
    """Return a value as source code: on one line if it fits, else one line per entry."""
    match value:
        case bool() | None:
            return words[value]
        case dict():
            parts = [
                f"{json.dumps(key)}: {_literal(one, words, indent=indent, depth=depth + 1)}"
                for key, one in value.items()
            ]
            opened, closed = "{", "}"
        case list():
            parts = [_literal(one, words, indent=indent, depth=depth + 1) for one in value]
            opened, closed = "[", "]"
        case _:
            return json.dumps(value, ensure_ascii=False)
    line = opened + ", ".join(parts) + closed
    if "\n" not in line and len(line) + indent * depth <= _LINE:
        return line
    space = " " * indent * (depth + 1)
    return opened + "\n" + ",\n".join(space + part for part in parts) + "\n" + " " * indent * depth + closed
