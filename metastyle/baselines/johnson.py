"""Johnson et al. 2016: the same network trained from scratch for one style."""

from metastyle.adaptation.adapt import Stop, Updates, adapt, adapt_until_converged
from metastyle.baselines import Context, Method, Printed
from metastyle.core.network import new_network, stylise


class Settings(Updates):
    """`methods.johnson`: its own updates, at most; the rest is section `adapt`'s."""

    stop: Stop | None = None  # None: after just so many updates


def build(settings: Settings, context: Context) -> Method:
    s, c = settings, context
    training = c.adaptation.by(s)
    scratch = new_network(training.seed).to(c.device)

    def prepare(style):
        given = scratch, style, c.photos
        if s.stop is None:
            return adapt(*given, c.loss, training)
        return adapt_until_converged(*given, c.validation, c.loss, training, s.stop)

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
