"""Errors of requests that name an object that does not exist: HTTP 404."""

from service.errors.base import RegistryError


class NotFound(RegistryError):
    code, title, status = "not_found", "The resource does not exist", 404


class NoClassifier(NotFound):
    code, title, status = "no_classifier", "No classifier is configured", 404


class CollectionNotFound(NotFound):
    code, title, status = "collection_not_found", "The collection does not exist", 404


class ModelNotFound(NotFound):
    code, title, status = "model_not_found", "The model does not exist", 404


class CalibrationNotFound(NotFound):
    code, title, status = "calibration_not_found", "The model bundle contains no calibration", 404


class IdentityNotFound(NotFound):
    code, title, status = "identity_not_found", "The identity does not exist in the collection", 404


class TemplateNotFound(NotFound):
    code, title, status = "template_not_found", "The identity has no such template", 404


class CorrectionNotFound(NotFound):
    code, title, status = "correction_not_found", "The identity has no such correction", 404


class GroupNotFound(NotFound):
    code, title, status = "group_not_found", "The job has no such group", 404


class JobNotFound(NotFound):
    code, title, status = "job_not_found", "The job does not exist in the collection", 404


class WebhookNotFound(NotFound):
    code, title, status = "webhook_not_found", "The webhook does not exist in the collection", 404
