"""An embedder in another number format uses the calibration that was measured in it."""

import openvino
import pytest

from service.runtime.api import create_app
from service.runtime.settings import load_settings
from tests.conftest import serving
from tests.contract.enrolment import FACE, OTHER
from tests.photos import b64


def has_bf16() -> bool:
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.mark.skipif(not has_bf16(), reason="the processor does not multiply in bf16")
def test_rates_are_resolved_in_the_number_format_in_use(postgres_url: str) -> None:
    settings = load_settings(database={"url": postgres_url}, inference={"precision": "bf16"})
    pictures = {"image_a": b64(FACE), "image_b": b64(OTHER)}
    with serving(create_app(settings)) as client:
        model = client.get("/models").json()["models"][0]
        assert (model["precision"], model["calibrated"]) == ("bf16", True)
        document = client.get(f"/models/{model['id']}/calibration").json()
        assert document["calibration"]["precision"] == "bf16"
        assert document["picture"] is None
        verified = client.post("/verify", json={**pictures, "fmr": 1e-3}).json()
        points = {point["fmr"]: point["threshold"] for point in document["calibration"]["points"]}
        assert (verified["precision"], verified["threshold"]) == ("bf16", pytest.approx(points[1e-3]))
