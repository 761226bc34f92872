"""Chapter 10: a clip frame by frame, and its flicker (figure 5b, claim C8)."""

from typing import Annotated

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from metastyle.config import ImageSide, Section


class Pan(Section):
    """A camera moving over held-out photos, see `flicker.pan`.

    photos: the first by name; size: pixels of the window; steps: pixels per frame; noise: rms of
    the noise that a second run adds to every frame.
    """

    photos: PositiveInt
    size: ImageSide
    steps: list[NonNegativeInt]
    frames: Annotated[int, Field(ge=2)]
    noise: NonNegativeFloat
    seed: int


class Video(Section):
    """Section `video`: what chapter 10 renders and measures.

    styles: of the adapted ones; height: pixels; frames: of the clip, None for all; shown: first
    and number of the consecutive frames that are shown and that Gatys gets.
    """

    styles: Annotated[list[NonNegativeInt], Field(min_length=1)]
    height: ImageSide
    frames: PositiveInt | None
    shown: tuple[NonNegativeInt, Annotated[int, Field(ge=2)]]
    gatys_height: ImageSide
    gatys_updates: PositiveInt
    pan: Pan
