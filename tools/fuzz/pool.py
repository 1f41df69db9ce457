"""Names and ids that exist in the service, so that generated requests reach more code than the check of an id."""

import base64
import random
import uuid
from dataclasses import dataclass, field
from typing import Any

import httpx
from hypothesis import strategies as st

from tools.fuzz import originals
from tools.fuzz.values import (
    TEXTS,
    b64,
    boxes,
    encode,
    filters,
    image_files,
    json_values,
    names,
    numbers,
    retention_times,
    texts,
    vectors,
)

COLLECTIONS = ("default", "staff", "visitors")


@dataclass
class Pool:
    """Existing names and ids by the name of the parameter that takes them."""

    ids: dict[str, list[str]] = field(default_factory=dict)

    def fill(self, client: httpx.Client) -> None:
        """Creates collections, identities, templates, a correction and a job. Generated requests may delete them."""
        self.ids = {"name": list(COLLECTIONS), "collection": list(COLLECTIONS), "to": list(COLLECTIONS)}
        self.ids["model_id"] = [model["id"] for model in client.get("/models").json()["models"]]
        picture = b64(originals.face())
        for collection in COLLECTIONS:
            client.post("/collections", json={"name": collection})
            place = {"collection": collection}
            body = {"label": "Ada", "external_id": uuid.uuid4().hex, "images": [picture], "metadata": {"a": {"b": 1}}}
            identity = client.post("/register", params=place, json=body).json()
            if "identity_id" not in identity:
                continue
            self._add("identity_id", identity["identity_id"])
            self._add("template_id", *(image["template_id"] for image in identity["images"] if image["template_id"]))
            path = f"/identities/{identity['identity_id']}/corrections"
            correction = client.post(path, params=place, json={"image": picture, "face": "only"}).json()
            self._add("correction_id", *([correction["id"]] if "id" in correction else []))
        jobs = client.get("/jobs").json().get("jobs", [])
        self._add("job_id", *(job["id"] for job in jobs[:5]))

    def _add(self, name: str, *values: str) -> None:
        self.ids.setdefault(name, []).extend(values)

    def path_value(self, rng: random.Random, name: str) -> str:
        """Returns a value for a parameter of a path: usually one that exists."""
        known = self.ids.get(name)
        return rng.choice(known) if known and rng.random() < 0.8 else rng.choice((*TEXTS, str(uuid.UUID(int=1))))

    def valid_document(self, path: str) -> dict[str, Any] | None:
        """Returns a body that the operation accepts; None: the operation has no body, or needs none."""
        picture = b64(originals.face())
        documents: dict[str, dict[str, Any]] = {
            "/register": {"label": "Grace", "images": [picture]},
            "/verify": {"image_a": picture, "image_b": picture},
            "/search": {"image": picture, "face": "all"},
            "/embed": {"image": picture},
            "/predict": {"image": picture},
            "/identities/{identity_id}": {"label": "Ada"},
            "/identities/{identity_id}/merge": {"identities": self.ids.get("identity_id", [])[:1]},
            "/identities/{identity_id}/split": {
                "template_ids": self.ids.get("template_id", [])[:1],
                "external_id": "b",
            },
            "/identities/{identity_id}/move": {"to": "staff"},
            "/identities/{identity_id}/corrections": {"image": picture},
            "/collections": {"name": "visitors"},
            "/collections/{name}/model-migration": {"model_id": self.ids["model_id"][0]},
        }
        return documents.get(path)

    def sampled(self, name: str) -> st.SearchStrategy[str]:
        """Returns a strategy of existing and other values."""
        return st.one_of(st.sampled_from(self.ids.get(name) or [""]), st.uuids().map(str), texts)


def field_values(pool: Pool) -> dict[str, st.SearchStrategy[Any]]:
    """Returns a strategy of plausible values for the fields and parameters whose names have a meaning."""
    ids, templates = pool.sampled("identity_id"), pool.sampled("template_id")
    image = image_files.map(b64)
    rates = st.one_of(st.sampled_from((0.01, 0.001, 1e-4, 1e-9)), numbers)
    plausible: dict[str, st.SearchStrategy[Any]] = {
        "image": image, "image_a": image, "image_b": image, "images": st.lists(image, max_size=3),
        "embedding": vectors, "embedding_a": vectors, "embedding_b": vectors,
        "embeddings": st.lists(vectors, max_size=2), "model_id": pool.sampled("model_id"),
        "box": boxes, "box_a": boxes, "box_b": boxes, "boxes": st.lists(boxes, max_size=3),
        "face": st.one_of(st.sampled_from(("strongest", "largest", "only", "box", "all")), texts),
        "detector": st.one_of(st.sampled_from(("yolo", "none")), texts),
        "filter": filters, "metadata": st.dictionaries(names, json_values, max_size=4),
        "fmr": rates, "fpir": rates, "threshold": st.one_of(st.floats(-1, 1), numbers),
        "top_k": st.one_of(st.integers(1, 1000), numbers), "retain_until": retention_times,
        "identity_id": ids, "identities": st.lists(ids, max_size=3), "template_ids": st.lists(templates, max_size=3),
        "collection": pool.sampled("collection"), "to": pool.sampled("to"),
        "name": pool.sampled("collection"), "limit": numbers, "cursor": _cursors(),
    }  # fmt: skip
    return plausible


def _cursors() -> st.SearchStrategy[str]:
    """Returns cursors of lists: valid ones, ones with other contents, and texts that are no cursors."""
    moments = st.datetimes(timezones=st.timezones()).map(lambda moment: moment.isoformat())
    positions = st.builds(lambda moment, key: f"{moment} {key}", moments, st.uuids())
    contents = st.one_of(positions, st.integers().map(str), texts)
    return st.one_of(contents.map(lambda text: base64.urlsafe_b64encode(encode(text)).decode()), texts)
