"""Short meta-trainings that differ in one thing each, to choose the reference run's settings."""

from pydantic import Field, PositiveInt, model_validator

from metastyle.adaptation.adapt import Adaptation, Watch
from metastyle.config import Section
from metastyle.core.losses import Perceptual
from metastyle.meta.train import MetaTraining


class Change(Section):
    """What one trial has other than the base: some values of each section, by name.

    against: the trial that it differs from in one thing.
    """

    why: str
    against: str = "base"
    perceptual: dict = Field(default_factory=dict)
    meta_train: dict = Field(default_factory=dict)


class Trials(Section):
    """Section `trials`.

    names: the trials to run. changes: all that are known, by name. The other fields are the
    base: the settings of every trial but for its changes, and how all of them are judged.
    """

    names: list[str]
    changes: dict[str, Change]
    perceptual: Perceptual
    meta_train: MetaTraining
    adapt: Adaptation
    artworks: PositiveInt
    watch: Watch

    @model_validator(mode="after")
    def _known_names(self) -> "Trials":
        if unknown := set(self.names) - set(self.changes):
            raise ValueError(f"trials.changes has no {', '.join(sorted(unknown))}")
        if unknown := {change.against for change in self.changes.values()} - set(self.changes):
            raise ValueError(f"trials.changes has no {', '.join(sorted(unknown))} to compare with")
        for name, change in self.changes.items():
            wrong = set(change.meta_train) - set(MetaTraining.model_fields)
            wrong |= set(change.perceptual) - set(Perceptual.model_fields)
            if wrong:
                raise ValueError(f"{name} changes {', '.join(sorted(wrong))}, which do not exist")
        return self


def settings(trials: Trials, name: str) -> tuple[MetaTraining, Perceptual]:
    """The meta-training of one trial and the loss that it minimises."""
    change = trials.changes[name]
    return (
        MetaTraining.model_validate(trials.meta_train.model_dump() | change.meta_train),
        Perceptual.model_validate(trials.perceptual.model_dump() | change.perceptual),
    )
