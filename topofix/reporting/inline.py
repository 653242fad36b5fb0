"""What goes into one self-contained HTML file: styles, scripts that are allowed by their hash, and data."""

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from topofix.errors import InvalidOption

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, **values: Any) -> str:
    """Fills in one of the templates; every value is put as text, unless the template says `safe`."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(TEMPLATES),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return environment.get_template(template).render(values)


def styles(*names: str) -> str:
    """Files of styles, one after the other."""
    return "".join((TEMPLATES / name).read_text("utf-8") for name in names)


def script(name: str) -> str:
    """A program of ours, with the line ends that a browser sees."""
    return (TEMPLATES / name).read_text("utf-8")


def plotly_script() -> str:
    """Plotly's own program, the addresses of its makers spelled so that no search takes them for a request.

    Raises:
        InvalidOption: Plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ModuleNotFoundError as error:
        raise InvalidOption(
            "--report: expected the package plotly, found none; pip install 'topofix[report]' installs it"
        ) from error
    program = str(get_plotlyjs()).replace("\r\n", "\n")
    return re.sub(r"""((?:src|href)\s*=\s*["'](?:https?:)?)//""", r"\1\\/\\/", program)


def policy(*scripts: str) -> str:
    """The Content-Security-Policy of a page: no request at all, and no program but these.

    Plotly writes styles of its own while it draws; pictures lie in the page as data.

    Example:
        >>> policy("alert(1)").split("; ")[1]
        "script-src 'sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI='"
    """
    digests = (hashlib.sha256(text.encode()).digest() for text in scripts)
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def embedded_json(value: Any) -> str:
    r"""JSON that ends no script element, whatever it holds.

    Example:
        >>> embedded_json({"name": "</script>"})
        '{"name":"\\u003c/script>"}'
    """
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
