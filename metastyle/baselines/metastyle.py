"""MetaStyle: the style-neutral network adapted to one style."""

from pathlib import Path

from metastyle.adaptation.adapt import adapt
from metastyle.baselines import Context, Method, Printed
from metastyle.config import Section
from metastyle.core.checkpoint import load_network
from metastyle.core.network import stylise


class Settings(Section):
    """`methods.metastyle`; adaptation follows section `adapt`."""

    weights: Path | None = None  # the style-neutral network; None: that of the context


def build(settings: Settings, context: Context) -> Method:
    c = context
    start = c.start if settings.weights is None else load_network(settings.weights)

    def prepare(style):
        return adapt(start, style, c.photos, c.loss, c.adaptation)

    return Method(
        label="MetaStyle",
        parameters=sum(p.numel() for p in start.parameters()),
        styles="any, after adaptation",
        updates=1,
        prepare=prepare,
        ready=lambda style: start,
        stylise=stylise,
        printed=Printed("1.68M", {256: 0.0047, 512: 0.0145}),
    )
