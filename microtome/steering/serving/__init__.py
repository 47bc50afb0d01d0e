"""Many requests for one model at once: an engine that generates them together, each row with its own edits; and names that requests may use.

Made from a loaded model. Begin with

    engine = Engine(model)
    ticket, = engine.submit([Request(prompt="Once upon a time", edits=EditSet.of(edit))], on_piece=lambda piece: print(piece.text))
    ticket.result().text                       # what `generate` makes of it; ticket.cancel() takes it back

A `Library` finds the directions, dictionaries and saved variants that edits name in a workspace. `microtome.web` speaks the OpenAI protocol
over it, and `inspect_provider` is a model of Inspect.
"""

from microtome.steering.serving.engine import Engine, Limits, Metrics, OnPiece, Piece, Request, Ticket
from microtome.steering.serving.library import Library

__all__ = ["Engine", "Request", "Ticket", "Piece", "OnPiece", "Limits", "Metrics", "Library"]
