"""Write the client's exceptions, one for each error code of the API: `python -m scripts.client_codes`."""

import textwrap
from pathlib import Path

from common.problems import CODES, read_help

PATH = Path(__file__).resolve().parent.parent / "client" / "src" / "data_compliance_client" / "codes.py"


def module() -> str:
    """Return the text of the module."""
    head = '"""One exception for each error code of the API. This file is generated: do not edit it."""'
    classes = [f"{head}\n\nfrom data_compliance_client.errors import APIError\n"]
    explained = read_help()
    for code, (status, title) in CODES.items():
        text = textwrap.fill(" ".join(explained[code]), 112, break_on_hyphens=False)
        name = "".join(word.capitalize() for word in code.split("_"))
        doc = textwrap.indent(f'"""{title} ({status}).\n\n{text}\n"""', "    ", lambda line: line != "\n")
        classes.append(f'class {name}(APIError):\n{doc}\n\n    code = "{code}"\n')
    return "\n\n".join(classes)


if __name__ == "__main__":
    PATH.write_text(module(), encoding="utf-8")
