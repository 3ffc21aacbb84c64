"""HTML pages in one file each, which open offline: their frame, style and scripts.

The Content-Security-Policy of a page allows its own scripts and nothing from elsewhere, whatever
the names in it are.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from featplug.io.metric_table import format_value

_SCRIPTS = ("report.js", "viewer.js")
"""Scripts of all pages."""


def render(
    template: str,
    folders: Sequence[Path] = (),
    filters: Mapping[str, Callable[..., Any]] | None = None,
    made: datetime | None = None,
    more_scripts: Sequence[str] = (),
    **contents: Any,
) -> str:
    """Return a page as HTML.

    Args:
        template: name of a template, which extends ``layout.html``.
        folders: folders of more templates than this package has.
        filters: name to a filter of these templates.
        made: time when the page was made, by default now.
        more_scripts: names of more assets that the page needs.
        contents: variables of the template.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*map(str, folders), str(_files("templates"))]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": format_value,
        "pretty": lambda value: json.dumps(value, indent=2, ensure_ascii=False),
        **(filters or {}),
    }
    scripts = [_asset(name) for name in (*_SCRIPTS, *more_scripts)]
    return environment.get_template(template).render(
        made=made or datetime.now().astimezone(),
        style=_asset("style.css"),
        scripts=scripts,
        script_hashes=[_content_hash(script) for script in scripts],
        **contents,
    )


def _files(folder: str) -> Path:
    return Path(str(resources.files(__package__))) / folder


def _asset(name: str) -> str:
    return (_files("assets") / name).read_text("utf-8")


def _content_hash(script: str) -> str:
    """Hash a script for the Content-Security-Policy, which allows no other on the page."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
