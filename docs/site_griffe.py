"""How the site's builder reads our docstrings, where it would read them otherwise.

`Example:` holds Python, which is shown as code. The functions of `convnext.applications` are made
by one function from one template, which is no docstring to somebody who does not run it.
"""

from __future__ import annotations

import ast
import inspect
import re
from typing import Any

from griffe import Attribute, Docstring, Extension, Object

EXAMPLE = re.compile(r"^Example:\n((?:    .*\n?|\n)+)", flags=re.MULTILINE)
MAKER, TEMPLATE = "_model_function(", "_DOCSTRING"


def fenced(section: re.Match[str]) -> str:
    """The section with its lines between fences, as a session where it has a prompt."""
    lines = section[1].rstrip()
    kind = "pycon" if lines.lstrip().startswith(">>>") else "python"
    return f"Example:\n    ```{kind}\n{lines}\n    ```\n"


def from_template(function: Attribute) -> Docstring | None:
    """The docstring that a function will have once its module has run."""
    template = function.parent.members.get(TEMPLATE) if function.parent else None
    if template is None or not str(function.value).startswith(MAKER):
        return None
    text = inspect.cleandoc(ast.literal_eval(str(template.value)))
    variant = ast.literal_eval(str(function.value).rsplit("[", 1)[1].rstrip("])"))
    facts = {"title": function.name, "function": function.name, "name": variant, "smallest": 32}
    quiet = {"warn_missing_types": False}
    return Docstring(text.format(**facts), parent=function, parser="google", parser_options=quiet)


class Reading(Extension):
    """Rewrites docstrings before they are parsed."""

    def on_attribute_instance(self, *, attr: Attribute, **_: Any) -> None:
        """Called for each name that is assigned to."""
        attr.docstring = attr.docstring or from_template(attr)

    def on_instance(self, *, obj: Object, **_: Any) -> None:
        """Called for each object that is read."""
        if obj.docstring is not None:
            obj.docstring.value = EXAMPLE.sub(fenced, obj.docstring.value)
