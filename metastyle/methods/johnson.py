"""Johnson et al. 2016: the same network trained from scratch for one style."""

from metastyle.adaptation import Updates, adapt
from metastyle.methods import Method, Printed, Resources
from metastyle.transformer import new_network, stylise


class Settings(Updates):
    """`methods.johnson`: its own updates; the rest is section `adapt`'s."""


def build(settings: Settings, resources: Resources) -> Method:
    r = resources
    training = r.adaptation.by(settings)
    scratch = new_network(training.seed).to(r.features.mean.device)

    def prepare(style):
        return adapt(scratch, style, r.photos, r.features, r.perceptual, training).network

    return Method(
        label="Johnson et al. 2016",
        parameters=sum(p.numel() for p in scratch.parameters()),
        styles="1",
        updates=1,
        prepare=prepare,
        ready=lambda style: scratch,
        stylise=stylise,
        printed=Printed("1.68M", {256: 0.0044, 512: 0.0146}),
    )
