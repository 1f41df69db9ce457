"""Settings of a cohort."""

from pydantic import Field

from trainer.configuration import Configuration


class CohortConfig(Configuration):
    """Settings of `identity-trainer cohort`.

    Attributes:
        centres: Number of clusters of unlabelled faces.
        sharpness: Initial inverse temperature of the weights of the centres.
        strength: Initial share of a centre that is subtracted from the embeddings near it.
        temperature: Of the similarities in the density of faces around a face, the mean of exp(cosine / temperature).
        separation: Weight of the loss that keeps two pictures of one person closer than pictures of two people.
        evenness: Weight of the variance of the logarithmic density among unlabelled faces.
        level: Weight of the squared difference between the mean logarithmic densities, see `density_ratio`.
        density_ratio: Wanted density among unlabelled faces, as a multiple of that among labelled people. Below 1 the
            unlabelled faces get fewer false matches than the labelled people, on whom thresholds are measured.
    """

    centres: int = Field(ge=2)
    sharpness: float = Field(gt=0)
    strength: float = Field(gt=0, lt=1)
    temperature: float = Field(gt=0)
    separation: float = Field(ge=0)
    evenness: float = Field(ge=0)
    level: float = Field(ge=0)
    density_ratio: float = Field(gt=0)
    steps: int = Field(ge=1)
    people_per_step: int = Field(ge=2)
    unlabelled_per_step: int = Field(ge=2)
    learning_rate: float = Field(gt=0)
    seed: int
