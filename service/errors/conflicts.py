"""The request does not fit the current state: HTTP 409."""

from service.errors.base import RegistryError


class Conflict(RegistryError):
    code, title, status = "conflict", "The request does not fit the present state", 409


class CollectionExists(Conflict):
    code, title, status = "collection_exists", "A collection of this name exists already", 409


class IdentityExists(Conflict):
    code, title, status = "identity_exists", "Somebody is enrolled under this id already", 409


class OtherModel(Conflict):
    code, title, status = "other_model", "The collections belong to different models", 409


class NothingLeft(Conflict):
    code, title, status = "nothing_left", "The identity would have no template any more", 409


class DuplicatePerson(Conflict):
    code, title, status = "duplicate_person", "The person seems to be enrolled already", 409


class ModelIncomplete(Conflict):
    code, title, status = "model_incomplete", "The other model does not know everybody yet", 409


class CropsUnavailable(Conflict):
    code, title, status = "crops_unavailable", "The service has no key to keep crops under", 409


class NewPhotosNeeded(Conflict):
    code, title, status = "new_photos_needed", "There is nothing that another model could embed", 409


class CropUnreadable(Conflict):
    code, title, status = "crop_unreadable", "A stored crop can't be decrypted", 409


class ModelNotLoaded(Conflict):
    code, title, status = "model_not_loaded", "The collection belongs to a model that is not loaded", 409


class WrongWorker(Conflict):
    code, title, status = "wrong_worker", "The worker runs another model", 409
