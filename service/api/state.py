"""What the routes work with. Built by the composition root, one for the life of the process."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from service.api.http.problems import ClientGoneError
from service.api.http.rates import Rates
from service.errors import RegistryError
from service.gallery.access.audit import AuditTrail
from service.gallery.access.keyring import KeyRing
from service.gallery.people.crops import CropCipher
from service.gallery.storage.database import Database
from service.gallery.storage.schema import Release
from service.inference.bundle import EmbedderManifest, Precision
from service.inference.classifier import Classifier
from service.inference.engine import Engine, HostedEngine, Picture, Observation
from service.jobs.queue import Queue
from service.jobs.uploads import Uploads
from service.recognition.corrections import Corrector
from service.recognition.decision_resolver import DecisionResolver
from service.recognition.duplicates import EnrolmentLocks
from service.recognition.enrolment import Enroller
from service.recognition.gate import QualityGate
from service.recognition.read_audit import ReadAuditBuffer


@dataclass(frozen=True)
class LoadedBundle:
    """A loaded embedder's bundle: what it says about itself, and the files beside the graph."""

    folder: Path
    manifest: EmbedderManifest


@dataclass(frozen=True)
class Classes:
    """The classifier behind `/predict`, and which hosts it may take pictures from."""

    classifier: Classifier
    allowed_url_hosts: Sequence[str]
    max_image_bytes: int


@dataclass(frozen=True)
class Registry:
    """The long-lived parts.

    Attributes:
        owner: the database as the owner of its tables sees it; requests never use it.
        bundles: of the loaded models by their ids, the main one's first.
        crop_cipher: for crops; None: there is no key to keep them under.
        keys_required: else who sends no key may do everything.
        classifier: None: none is configured.
    """

    database: Database
    owner: Database
    engine: HostedEngine
    resolver: DecisionResolver
    bundles: Mapping[str, LoadedBundle]
    gate: QualityGate
    enrolment_locks: EnrolmentLocks
    precision: Precision
    release: Release
    trail: AuditTrail
    crop_cipher: CropCipher | None
    read_audit: ReadAuditBuffer
    queue: Queue
    uploads: Uploads
    import_root: Path | None
    rates: Rates
    keys: KeyRing
    keys_required: bool
    classifier: Classes | None = None

    def enroller(self, engine: Engine) -> Enroller:
        """Enrols with this engine."""
        return Enroller(self.database, engine, self.gate, self.resolver, self.enrolment_locks, self.trail, self.crop_cipher)

    def corrector(self, engine: Engine) -> Corrector:
        """Takes corrections with this engine."""
        return Corrector(self.database, engine, self.trail, self.crop_cipher)


class DisconnectAwareEngine:
    """An engine that stops waiting when the request's client has gone, so that its pictures are dropped unseen."""

    def __init__(self, engine: Engine, request: Request) -> None:
        self.model_id, self.dims = engine.model_id, engine.dims
        self._engine, self._request = engine, request

    async def observe(self, images: Sequence[Picture]) -> list[Observation | RegistryError]:
        work = asyncio.ensure_future(self._engine.observe(images))
        gone = asyncio.ensure_future(self._disconnect())
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ClientGoneError
            return work.result()
        finally:
            work.cancel()
            gone.cancel()

    async def _disconnect(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass


def get_registry(request: Request) -> Registry:
    return request.app.state.registry


def get_engine(request: Request) -> Engine:
    return DisconnectAwareEngine(get_registry(request).engine, request)


RegistryDependency = Annotated[Registry, Depends(get_registry)]
EngineDependency = Annotated[Engine, Depends(get_engine)]
