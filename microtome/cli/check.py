"""`microtome check`: does this model load, and do its sites mean what they say?"""

from microtome.cli.cards import titled
from microtome.cli.session import Common, Session
from microtome.cli.words import count


def check(model: str, *, device: str = "auto", common: Common = Common()) -> None:  # noqa: B008  frozen
    """Load a model, prove that its sites mean what they say, and list them.

    Proves on a short text that reading changes nothing, that an edit which does
    nothing changes nothing, that the residual stream is the sum of its parts,
    and that what is captured equals what the model computes without us.

    Examples:

        microtome check demo

        microtome check path/to/model.gguf --json

    Parameters
    ----------
    model
        `demo`, a local folder, a .gguf file, or a name on the hub with an optional @revision.
    device
        Where the model runs: auto, cpu, cuda, cuda:1, mps.
    """
    from microtome.models import load, selfcheck

    with Session(common) as session:
        with session.step("load model"):
            loaded = load(model, device=device, selfcheck=False, progress=session.progress)
        with session.step("check"):
            report = selfcheck(loaded)
        sites = loaded.sites()
        facts = {
            "model": loaded.ref,
            "fingerprint": loaded.fingerprint,
            "quantised": loaded.quantised,
            "n_layers": loaded.n_layers,
            "d_model": loaded.d_model,
            "n_vocab": loaded.n_vocab,
            "max_context": loaded.max_context,
            "device": str(loaded.device),
        }
        table = titled(f"self-check of {loaded.ref}")
        for heading in ("check", "", "value", "limit"):
            table.add_column(heading, justify="right" if heading in ("value", "limit") else "left")
        for row in report.rows:
            table.add_row(row.name, "ok" if row.ok else "FAILED", f"{row.value:.3g}", f"{row.limit:.3g}")
        about = f"{loaded.n_layers} layers, d_model {count(loaded.d_model)}, {count(loaded.n_vocab)} tokens in the vocabulary, on {loaded.device}"
        if loaded.quantised:
            about += f"; a {loaded.quantised} (quantised) model"
        per_layer = sorted({site.kind for site in sites if site.layer is not None})
        single = [str(site) for site in sites if site.layer is None]
        listed = f"sites: {', '.join(single)}; and in layers L0 … L{loaded.n_layers - 1}: {', '.join(per_layer)}"
        if report.ok or not session.json:  # with --json the error itself is the one document
            session.result({**facts, "sites": [str(site) for site in sites], "check": report}, table, about, listed)
        report.raise_if_failed()
