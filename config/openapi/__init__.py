"""The document of the API (OpenAPI 3.1) at `/api/schema/`, and the pages at `/api/docs/`.

How a call is described, in three steps:

1. Its answer is a pydantic model in the app's `api/shapes.py`, derived from `config.openapi.shapes.Shape`: each field
   is always present, `X | None` where null can be, a TextChoices class or Literal where a list is closed. A string
   under a field is its description. The body is the very model that validates it (`api/bodies.py`).
2. In the app's `api/described.py` stands its text: `file_deletion = describe(id="fileDeletion", summary=..., ...)`,
   with an example of each body and each answer, `parameters_of` the `Query` that reads its parameters, and in
   `refuses` the codes of `common.problems.CODES` that are its own. What follows from the view needs no word: path
   parameters, security and scope, the answers 401, 403, 404, 406, 429 and 503, for a body also 400, 413 and 415, and
   the headers of every answer (`config/openapi/schema.py`).
3. In the view, `@described.file_deletion` stands above the method.

`manage.py spectacular --validate --fail-on-warn` (in `make check`) fails for a call without a description. Tests look
at each example, and whatever the API answers in any test is held against the document (`tests/calls.py`).

| module | |
| --- | --- |
| `describing` | what a description is made of; needs no drf-spectacular |
| `shapes` | the base of all answers, and the problem |
| `schema` | from a view and its description to an operation |
| `extensions` | signature, token, and pydantic models for drf-spectacular |
| `document` | title, introduction, tags: drf-spectacular's settings |
| `views` | the document over HTTP |
"""
