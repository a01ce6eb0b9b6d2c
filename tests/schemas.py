"""The JSON schemas of docs/schemas, and a validator of the standard for each."""

from __future__ import annotations

import json
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource

from openssh_jobs.cli.app import COMMANDS
from tests.paths import CHECKOUT

DIRECTORY = CHECKOUT / "docs" / "schemas"
SCHEMAS: dict[str, Any] = {
    path.stem: json.loads(path.read_text()) for path in sorted(DIRECTORY.glob("*.json"))
}
PRINT_JSON = [name for name in COMMANDS if name != "ssh"]
"""The commands with ``--json``: what ``ssh`` prints is that of a program on the host."""
_REGISTRY: Any = Registry().with_resources(
    (schema["$id"], Resource.from_contents(schema)) for schema in SCHEMAS.values()
)


def problems(name: str, document: Any) -> list[str]:
    """Where a document is not as the schema NAME says."""
    validator = Draft202012Validator(
        SCHEMAS[name], registry=_REGISTRY, format_checker=FormatChecker()
    )
    return [
        f"{error.json_path}: {error.message[:300]}"
        for error in validator.iter_errors(document)
        for error in [*(error.context or []), error]
    ]


def check(name: str, text: str) -> Any:
    """The one document of a command's output, which must be as its schema says."""
    document = json.loads(text)
    assert problems(name, document) == [], text
    return document
