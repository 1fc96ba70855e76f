"""docs/*.md as pages: an incident links to its section where people read it, on a night without the
repository at hand. What is shown is the text that this version was delivered with, and nothing outside of
that folder."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from bilten_orchestration.observability.status import markup
from bilten_orchestration.settings import CHECKOUT

_DOCS = CHECKOUT / "docs"


@cache
def files() -> dict[str, Path]:
    """By the path that relative links in the documents have."""
    return {str(file.relative_to(_DOCS)): file for file in sorted(_DOCS.rglob("*.md"))}


@cache
def page(name: str) -> bytes | None:
    """None where there is no such document."""
    import markdown

    file = files().get(name)
    if file is None:
        return None
    text = file.read_text("utf-8")
    title = text.partition("\n")[0].lstrip("# ")
    article = markdown.markdown(text, extensions=["tables", "toc", "fenced_code", "sane_lists"])
    nav = '<header><nav aria-label="Elsewhere"><ul><li><a href="/">Status</a></li></ul></nav></header>'
    return markup.document(f"{title} - Bilten", f"{nav}<main><article>{article}</article></main>")
