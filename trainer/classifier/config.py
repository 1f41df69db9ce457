"""Settings of a closed-set classifier."""

from pydantic import Field

from trainer.configuration import Configuration, Fraction


class ClassifierConfig(Configuration):
    """A linear classifier on the embeddings of an embedder.

    Attributes:
        min_images_per_class: People with fewer pictures are excluded.
        held_back: Fraction of each person's pictures, at least one, that is only measured. The choice depends on the
            file name alone.
        mirrored: Fit on the mirror pictures as well.
        inverse_regularisation: scikit-learn's C; a higher value fits the pictures more closely.
        steps: Largest number of iterations of the solver.
        top_k: k of the top-k rate in the report.
    """

    min_images_per_class: int = Field(4, ge=2)
    held_back: Fraction = Field(0.25, gt=0, lt=1)
    mirrored: bool = True
    inverse_regularisation: float = Field(100.0, gt=0)
    steps: int = Field(500, ge=10)
    top_k: int = Field(5, ge=1)
