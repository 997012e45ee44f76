"""What the site cannot link to: files of the repository that are no pages become plain words."""

from __future__ import annotations

import re
from typing import Any

OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./[^)]*\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Called with each page before it is rendered."""
    is_top = "/" not in page.file.src_uri
    return OUTSIDE.sub(r"\1", markdown) if is_top else markdown
