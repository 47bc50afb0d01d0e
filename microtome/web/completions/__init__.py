"""The OpenAI protocol over a workspace: `/v1/chat/completions`, `/v1/completions`, `/v1/models`, with a field `edits`; `/health` and `/metrics`.

`asked` reads requests strictly, `told` words answers, `offers` knows which models and saved variants there are, `routes` connects them with
`microtome.steering.serving`, which does the work.
"""

from microtome.web.completions.offers import Offers
from microtome.web.completions.routes import completion_routes

__all__ = ["Offers", "completion_routes"]
