"""The workbench: a local server over a workspace, and pages that show what the feature index answers.

Made from a workspace with at least one index. Begin with `serve(workspace)`, or `create_app(workspace)` for an ASGI application. The server
computes nothing: a route is one call of `microtome.features`, a page is one ES module in `static/pages/` that shows the route's JSON, and
its pieces are one module a panel in `static/panels/`. To add a page: a route in `api.py`, its path in `app.PAGES`, a module in
`static/pages/` and a line in `static/main.js`. `write_report` makes one self-contained HTML file instead, `write_copy` a folder that any web host
serves.
"""

from microtome.web.app import create_app
from microtome.web.copy import write_copy
from microtome.web.model_desk import ModelDesk, ModelLoader, ModelState
from microtome.web.report import write_report
from microtome.web.server import serve
from microtome.web.sweep_report import scaling_lines, write_sweep_report

__all__ = ["ModelDesk", "ModelLoader", "ModelState", "create_app", "scaling_lines", "serve", "write_copy", "write_report", "write_sweep_report"]
