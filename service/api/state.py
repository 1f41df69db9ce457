"""The long-lived parts of the API process and the use cases that are composed of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from service.api.http.disconnect import DisconnectAwareEngine
from service.api.http.rate_limits import KeyRateLimiter
from service.background_tasks import BackgroundTasks
from service.gallery.access.audit_trail import AuditTrail
from service.gallery.access.keyring import KeyRing
from service.gallery.enrolment.store import EnrolmentStore
from service.gallery.index.memory_indexes import MemoryIndexes
from service.gallery.people.crop_cipher import CropCipher
from service.gallery.search.search import GallerySearch, GallerySizes, RecentCollections
from service.gallery.storage.database import Database
from service.gallery.storage.schema import Release
from service.gallery.webhooks.signing import WebhookSigner
from service.inference.calibration import Precision
from service.inference.engine import Engine, HostedEngine
from service.jobs.administration import JobAdministration
from service.jobs.model_migration import ModelMigration
from service.jobs.monitoring import Monitoring
from service.jobs.queue import Queue
from service.jobs.uploads import Uploads
from service.jobs.webhooks import WebhookLimits
from service.recognition.audit_queries import AuditQueries
from service.recognition.candidates import ResponseLimits
from service.recognition.collections import CollectionAdministration
from service.recognition.corrections import Corrector
from service.recognition.decision import DecisionResolver
from service.recognition.embedding import Embedder
from service.recognition.enrolment import Enroller
from service.recognition.gallery_comparison import GalleryComparer
from service.recognition.groups import GroupAdministration
from service.recognition.identification import Identifier
from service.recognition.identities import IdentityAdministration
from service.recognition.models import LoadedBundle, ModelCatalogue
from service.recognition.policies import QualityLimits, QualityMode
from service.recognition.prediction import ClassifierSetup, Predictor
from service.recognition.read_audit import ReadAuditBuffer
from service.recognition.readiness import Readiness
from service.recognition.subjects import SubjectAdministration
from service.recognition.unknown_faces import UnknownFaces
from service.recognition.verification import Verifier
from service.recognition.webhooks import WebhookAdministration


@dataclass(frozen=True)
class AppState:
    """The long-lived parts, and the use cases. The composition root builds it once for each process.

    Attributes:
        owner: connections with the rights of the tables' owner; requests do not use them.
        reserved: connections for API keys and readiness, which requests cannot occupy.
        bundles: the loaded models by id, the main one first.
        crop_cipher: None: there is no key to encrypt crops.
        keys_required: False: a caller without a key may do everything.
        max_templates: maximum number of templates of an identity under a model.
        grouping_fmr: default false match rate of grouping jobs.
        max_webhooks: maximum number of webhooks of a collection.
        classifier: None: no classifier is configured.
    """

    database: Database
    owner: Database
    engine: HostedEngine
    resolver: DecisionResolver
    sizes: GallerySizes
    recent: RecentCollections
    indexes: MemoryIndexes
    bundles: Mapping[str, LoadedBundle]
    limits: Mapping[QualityMode, QualityLimits | None]
    precision: Precision
    release: Release
    audit_trail: AuditTrail
    crop_cipher: CropCipher | None
    read_audit: ReadAuditBuffer
    queue: Queue
    uploads: Uploads
    import_root: Path | None
    rate_limiter: KeyRateLimiter
    background: BackgroundTasks
    reserved: Database
    keys: KeyRing
    keys_required: bool
    response_limits: ResponseLimits
    max_templates: int
    grouping_fmr: float
    webhook_limits: WebhookLimits
    max_webhooks: int
    gallery_comparer: GalleryComparer
    classifier: ClassifierSetup | None = None

    @property
    def search(self) -> GallerySearch:
        return GallerySearch(self.database, self.sizes, self.indexes, self.recent)

    def enroller(self, engine: Engine) -> Enroller:
        store = EnrolmentStore(self.database, self.audit_trail, self.sizes, self.indexes, self.max_templates)
        outliers_below = self.resolver.outliers_below
        parts = self.limits, self.resolver, outliers_below, self.read_audit, self.crop_cipher
        return Enroller(store, engine, *parts)

    def verifier(self, engine: Engine) -> Verifier:
        return Verifier(self.search, engine, self.resolver, self.read_audit)

    def identifier(self, engine: Engine) -> Identifier:
        parts = self.search, engine, self.resolver, self.read_audit, self.response_limits
        return Identifier(*parts, self.limits[QualityMode.STANDARD])

    def unknown_faces(self, engine: Engine) -> UnknownFaces:
        return UnknownFaces(self.enroller(engine))

    def embedder(self, engine: Engine) -> Embedder:
        return Embedder(engine, self.resolver, self.read_audit)

    def predictor(self, engine: Engine) -> Predictor:
        return Predictor(self.classifier, engine, self.read_audit)

    def corrector(self, engine: Engine) -> Corrector:
        return Corrector(self.database, engine, self.audit_trail, self.crop_cipher)

    @property
    def identities(self) -> IdentityAdministration:
        parts = self.database, self.audit_trail, self.read_audit, self.response_limits, self.max_templates
        return IdentityAdministration(*parts, self.crop_cipher)

    @property
    def subjects(self) -> SubjectAdministration:
        return SubjectAdministration(self.identities)

    @property
    def models(self) -> ModelCatalogue:
        return ModelCatalogue(self.bundles, self.resolver, self.precision)

    @property
    def collections(self) -> CollectionAdministration:
        can_store_crops = self.crop_cipher is not None
        default = self.engine.model_id
        return CollectionAdministration(self.database, self.audit_trail, self.resolver, default, can_store_crops)

    @property
    def model_migration(self) -> ModelMigration:
        return ModelMigration(self.database, self.audit_trail, self.queue, self.resolver)

    @property
    def jobs(self) -> JobAdministration:
        return JobAdministration(self.database, self.audit_trail, self.queue, self.uploads, self.import_root)

    @property
    def groups(self) -> GroupAdministration:
        parts = self.database, self.audit_trail, self.response_limits, self.resolver
        return GroupAdministration(*parts, self.max_templates, self.grouping_fmr)

    @property
    def webhook_signer(self) -> WebhookSigner | None:
        return None if self.audit_trail.key is None else WebhookSigner(self.audit_trail.key)

    @property
    def webhooks(self) -> WebhookAdministration:
        hosts = self.webhook_limits.allowed_hosts
        parts = self.database, self.audit_trail, self.read_audit, self.webhook_signer
        return WebhookAdministration(*parts, hosts, self.max_webhooks)

    @property
    def audit(self) -> AuditQueries:
        return AuditQueries(self.database, self.read_audit)

    @property
    def readiness(self) -> Readiness:
        return Readiness(self.reserved, self.release)

    @property
    def monitoring(self) -> Monitoring:
        return Monitoring(self.database)


# Both are coroutines, because FastAPI calls other functions on a thread.
async def get_state(request: Request) -> AppState:
    return request.app.state.registry


async def get_engine(request: Request) -> Engine:
    return DisconnectAwareEngine(request.app.state.registry.engine, request)


State = Annotated[AppState, Depends(get_state)]
RequestEngine = Annotated[Engine, Depends(get_engine)]
