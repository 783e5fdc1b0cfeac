"""The API's document (OpenAPI 3.1) at `/api/schema/`, and the pages at `/api/docs/`.

How an operation is described:

1. Its response is a pydantic model, derived from `config.openapi.operations.ResponseModel`: `X | None` where null is
   possible, a TextChoices class or Literal for an enum, within `Stored` if it is read from a row. The string under a
   field is its description. Its request body is the model that validates it.
2. `@describe(operation_id="fileDeletion", ...)` above the view's method has text and examples, in drf-spectacular's
   own types, and `refuses`, the codes of `common.problems.CODES` that only this operation returns (`operations`).

What follows from the view is added: path parameters, security and scope, the responses 401, 403, 404, 406, 429 and
503, for a body also 400, 413 and 415, and the headers of every response (`schema`).

`manage.py spectacular --validate --fail-on-warn` (in `make check`) fails for a method without a description. Tests
validate each example, and compare every response that any test gets with the document (`tests/calls.py`).
"""
