"""A canvas that draws one picture of the batch explorer, again where its size changes."""

from __future__ import annotations

from ..picture import Picture
from .canvas import Canvas


class PictureCanvas(Canvas):
    """Its picture, drawn by ``draw``."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.picture: Picture | None = None

    def show(self, picture: Picture) -> None:
        """Show this picture."""
        self.picture = picture
        self.draw(picture)

    def draw(self, picture: Picture) -> None:
        """Paint the lines of a picture for the present size."""
        raise NotImplementedError  # each part of the explorer has its own

    def on_resize(self) -> None:
        """Draw for the new size, which is the first one where it was hidden."""
        if self.picture is not None:
            self.draw(self.picture)
