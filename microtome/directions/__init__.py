"""Directions: single vectors with a meaning, each with the site, the model and the data that it comes from.

A `Direction` is a value: made from a vector in memory, read with `load_direction(path)`, or from JSON. Begin with

    direction = Direction(name="formal", site=Site.parse("L15.resid_post"), vector=vector, sign="towards formal speech", model=model.fingerprint)
    direction = direction.calibrated(projections, source="wiki")     # percentiles, so that strengths and caps can be given in them
    direction.project(x)                                             # coordinates of activations along it
    direction_card(path, workspace=workspace)                        # all that is known of one, and which others it resembles

Recipes that make them from texts are in `microtome.directions.recipes`; they read with a `Reader`. To extend: a recipe is a function in a file
of its own that returns a `Direction` whose `provenance` says how to make it again.
"""

from microtome.directions.calibration import Calibration
from microtome.directions.card import DirectionCard, Likeness, direction_card
from microtome.directions.direction import Direction
from microtome.directions.reading import Passage, Reader, Span, asked, spoken
from microtome.directions.storage import Measured, load_direction, load_measured, save_direction

__all__ = [
    "Direction",
    "Calibration",
    "load_direction",
    "save_direction",
    "Measured",
    "load_measured",
    "DirectionCard",
    "Likeness",
    "direction_card",
    "Reader",
    "Span",
    "Passage",
    "asked",
    "spoken",
]
