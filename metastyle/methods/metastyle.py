"""MetaStyle: the style-neutral network adapted to one style."""

from pathlib import Path

from metastyle.adaptation import adapt
from metastyle.checkpoint import load_network
from metastyle.methods import Method, Printed, Resources
from metastyle.params import Section
from metastyle.transformer import stylise


class Settings(Section):
    """`methods.metastyle`; adaptation follows section `adapt`."""

    weights: Path | None = None  # the style-neutral network; None: that of the resources


def build(settings: Settings, resources: Resources) -> Method:
    r = resources
    start = r.start if settings.weights is None else load_network(settings.weights)

    def prepare(style):
        return adapt(start, style, r.photos, r.features, r.perceptual, r.adaptation).network

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
