"""Johnson et al. 2016: the same network trained from scratch for one style."""

from metastyle.adaptation import Updates, adapt
from metastyle.methods import Method, Printed, Resources
from metastyle.stopping import Stop, adapt_until_flat
from metastyle.transformer import new_network, stylise


class Settings(Updates):
    """`methods.johnson`: its own updates, at most; the rest is section `adapt`'s."""

    stop: Stop | None = None  # None: after just so many updates


def build(settings: Settings, resources: Resources) -> Method:
    s, r = settings, resources
    training = r.adaptation.by(settings)
    scratch = new_network(training.seed).to(r.features.mean.device)

    def prepare(style):
        given = scratch, style, r.photos
        if s.stop is None:
            return adapt(*given, r.features, r.perceptual, training).network
        return adapt_until_flat(*given, r.validation, r.features, r.perceptual, training, s.stop)

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
