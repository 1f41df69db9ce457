"""Errors of requests that conflict with stored data: HTTP 409."""

from service.errors.base import RegistryError


class Conflict(RegistryError):
    code, title, status = "conflict", "The request conflicts with the current state", 409


class CollectionExists(Conflict):
    code, title, status = "collection_exists", "A collection with this name already exists", 409


class IdentityExists(Conflict):
    code, title, status = "identity_exists", "An identity with this external id already exists", 409


class OtherModel(Conflict):
    code, title, status = "other_model", "The collections use different models", 409


class NoTemplateLeft(Conflict):
    code, title, status = "no_template_left", "The identity would have no template left", 409


class DuplicatePerson(Conflict):
    code, title, status = "duplicate_person", "The person appears to be enrolled already", 409


class ModelIncomplete(Conflict):
    code, title, status = "model_incomplete", "The secondary model does not cover every identity", 409


class CropsUnavailable(Conflict):
    code, title, status = "crops_unavailable", "The service has no key to encrypt crops", 409


class CropsMissing(Conflict):
    code, title, status = "crops_missing", "No crops are stored from which to re-embed", 409


class CropUnreadable(Conflict):
    code, title, status = "crop_unreadable", "A stored crop cannot be decrypted", 409


class ModelNotLoaded(Conflict):
    code, title, status = "model_not_loaded", "The collection uses a model that is not loaded", 409


class WorkerModelMismatch(Conflict):
    code, title, status = "worker_model_mismatch", "The worker does not run the requested model", 409
