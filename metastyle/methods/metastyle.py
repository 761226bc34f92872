"""MetaStyle: the style-neutral network adapted to one style."""

from metastyle.adaptation import adapt
from metastyle.methods import Method, Printed, Resources
from metastyle.params import Section
from metastyle.transformer import stylise


class Settings(Section):
    """`methods.metastyle`: nothing of its own; adaptation follows section `adapt`."""


def build(settings: Settings, resources: Resources) -> Method:
    r = resources

    def prepare(style):
        return adapt(r.start, style, r.photos, r.features, r.perceptual, r.adaptation).network

    return Method(
        label="MetaStyle",
        parameters=sum(p.numel() for p in r.start.parameters()),
        styles="any, after adaptation",
        updates=1,
        prepare=prepare,
        ready=lambda style: r.start,
        stylise=stylise,
        printed=Printed("1.68M", {256: 0.0047, 512: 0.0145}),
    )
