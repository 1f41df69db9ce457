"""Settings of a closed-set classifier, read from a YAML file."""

from pydantic import Field

from trainer.configuration import Configuration, Fraction


class ClassifierConfig(Configuration):
    """A linear classifier of an embedder's embeddings.

    Attributes:
        min_images_per_class: people with fewer pictures are not among the classes.
        held_back: part of each person's pictures, at least one, that only measures. It depends on a file's name alone.
        mirrored: fit on the mirror pictures as well.
        inverse_regularisation: the larger, the more the classifier trusts the pictures that it has (scikit-learn's C).
        top_k: for the top-k rate.
    """

    min_images_per_class: int = Field(4, ge=2)
    held_back: Fraction = Field(0.25, gt=0, lt=1)
    mirrored: bool = True
    inverse_regularisation: float = Field(100.0, gt=0)
    steps: int = Field(500, ge=10)
    top_k: int = Field(5, ge=1)
