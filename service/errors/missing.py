"""The named object does not exist: HTTP 404."""

from service.errors.base import RegistryError


class NotFound(RegistryError):
    code, title, status = "not_found", "There is nothing at this address", 404


class NoClassifier(NotFound):
    code, title, status = "no_classifier", "No classifier is configured", 404


class CollectionNotFound(NotFound):
    code, title, status = "collection_not_found", "There is no collection of this name", 404


class ModelNotFound(NotFound):
    code, title, status = "model_not_found", "There is no model of this id", 404


class CalibrationNotFound(NotFound):
    code, title, status = "calibration_not_found", "The model's bundle has no calibration", 404


class IdentityNotFound(NotFound):
    code, title, status = "identity_not_found", "There is no such identity in the collection", 404


class TemplateNotFound(NotFound):
    code, title, status = "template_not_found", "The identity has no such template", 404


class CorrectionNotFound(NotFound):
    code, title, status = "correction_not_found", "The identity has no such correction", 404


class JobNotFound(NotFound):
    code, title, status = "job_not_found", "There is no such job in the collection", 404
