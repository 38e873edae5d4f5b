"""A post-mortem as text: who it was, the story, who wrote it down."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from textwrap import wrap

from ..core.model import PostMortem
from ..core.postmortem_story import Story
from ..core.texts import printable
from ..core.units import NOT_AVAILABLE
from ..draw.postmortem import story_lines
from .ansi import Line, Look, Span, paint


def render(found: PostMortem, story: Story, look: Look) -> str:
    """The post-mortem in lines of at most ``look.width`` characters."""
    return paint(_lines(found, story, look), look)


def _lines(found: PostMortem, story: Story, look: Look) -> Iterator[Line]:
    process = found.process
    at = datetime.fromtimestamp(found.failure.at).astimezone()
    command = process.command or NOT_AVAILABLE
    head = f"pid {process.pid} · {command} · {at:%Y-%m-%d %H:%M:%S}"
    if found.snapshot.host.hostname:
        head += f" · {found.snapshot.host.hostname}"
    for part in wrap(printable(head), look.width):
        yield (Span(part, "dim"),)
    yield ()
    for line in story_lines(story, look.width, look.mono, look.ascii):
        yield [
            Span(text, "" if tone == "text" else tone, "" if on == "background" else on)
            for text, tone, on in line
        ]
    yield ()
    writer = "the training itself" if found.written_by == "probe" else "a vramtop that watched it"
    yield (Span(f"written by {writer}:", "dim"),)
    yield (Span(printable(found.failure.file or NOT_AVAILABLE), "dim"),)  # whole, to be copied
