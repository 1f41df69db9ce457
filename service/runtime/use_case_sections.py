"""The sections of the settings for recognition, jobs, keys and limits."""

from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from service.strict_model import Strict
from service.vision.sample import MIN_VISIBLE


class RecognitionSettings(Strict):
    """Decisions and the quality of enrolled faces."""

    fmr: float = Field(
        1e-3,
        gt=0,
        lt=1,
        description="false match rate of verifications without a rate, and the highest one of such searches",
    )
    fpir: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="highest false positive identification rate of searches without a rate, if it is calibrated",
    )
    max_templates: int = Field(
        64,
        ge=1,
        description="maximum number of templates of an identity under a model; the templates that represent it best "
        "are kept, by quality and diversity",
    )
    duplicate_fpir: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="FPIR of the search for duplicates: share of new people who are reported as duplicates",
    )
    grouping_fmr: float = Field(
        3e-3, gt=0, lt=1, description="false match rate at the lowest mean similarity between the faces of a group"
    )
    min_face_px: float = Field(32, ge=0, description="minimum length of the shorter side of the face's box in pixels")
    min_sharpness: float = Field(15, ge=0, description="minimum variance of the Laplacian of the aligned crop")
    max_asymmetry: float = Field(
        0.75, ge=0, le=1, description="maximum asymmetry of the face: 0 is frontal, 1 is profile"
    )
    min_brightness: float = Field(30, ge=0, le=255, description="minimum mean luma of the face")
    max_brightness: float = Field(235, ge=0, le=255, description="maximum mean luma of the face")
    min_visible: float = Field(
        MIN_VISIBLE, ge=0, le=1, description="minimum share of the face that lies inside the picture"
    )
    min_quality: float = Field(
        0.05, ge=0, le=1, description="minimum share of the model's reference faces that have a lower quality"
    )


class SearchSettings(Strict):
    """1:N search."""

    memory_mb: int | None = Field(
        None,
        ge=0,
        description="memory of a process for indexes of collections above 5,000 identities, 232 MB per million "
        "of 128 dimensions; a collection that does not fit is searched in the database, which is slower; 0: no "
        "indexes; default: a quarter of the available memory, divided among `server.workers`",
    )


class AuditSettings(Strict):
    """The audit trail."""

    key: SecretStr | None = Field(
        None,
        min_length=32,
        description="key of the audit trail's MACs, the same for all services on a database. Default: with the "
        "embedded database a key in `data_dir`; with `database.url` no audit trail is kept",
    )
    client_addresses: bool = Field(
        True, description="entries contain the IP address of the client, unless it is a program of this machine"
    )


class CropSettings(Strict):
    """Encryption of stored crops."""

    key: SecretStr | None = Field(
        None,
        min_length=32,
        description="key that encrypts crops, the same for all services on a database. Default: with the embedded "
        "database a key in `data_dir`; with `database.url` no crops can be stored",
    )
    old_keys: list[SecretStr] = Field([], description="former keys, which still decrypt crops")


class JobSettings(Strict):
    """Background jobs."""

    in_api: bool = Field(
        True, description="the API's processes run jobs; set to false where `identity-registry jobs` runs"
    )
    uploads: Path | None = Field(
        None, description="folder of uploaded archives, shared by all processes; default: below `data_dir`"
    )
    import_root: Path | None = Field(
        None, description="folder of the server below which jobs may enrol; default: uploaded archives only"
    )
    max_archive_entries: int = Field(
        200_000,
        ge=1,
        description="maximum number of entries of an archive, of files of a folder, and of rows of a job",
    )
    max_upload_bytes_total: int = Field(
        16 * 1024**3,
        ge=1024,
        description="maximum size in bytes of all archives in the folder of uploads together, including those that "
        "are still arriving",
    )
    min_free_disk_bytes: int = Field(
        1024**3, ge=0, description="bytes that uploads leave free on the disk of the folder of uploads"
    )
    upload_timeout_s: float = Field(
        3600.0,
        gt=0,
        description="seconds in which an archive must arrive; `limits.idle_timeout_s` limits the pauses between parts",
    )
    parallel: int = Field(4, ge=1, le=64, description="identities that one task enrols at the same time")
    max_grouped_identities: int = Field(
        100_000,
        ge=2,
        description="maximum number of identities that one job groups; 100,000 take a minute and 0.3 GB",
    )
    keep_days: int = Field(7, ge=1, description="days for which finished jobs, their rows and their groups are kept")


class WebhookSettings(Strict):
    """Webhooks: HTTP requests to other services about matches, enrolments, erasures and ended jobs."""

    allowed_hosts: list[str] = Field(
        [],
        description="hosts that webhooks may contact, with the port if it is not the default port; default: none, and "
        "no webhook can be created",
    )
    max_per_collection: int = Field(10, ge=1, le=1000, description="maximum number of webhooks of a collection")
    timeout_s: float = Field(10.0, gt=0, le=60, description="seconds in which a receiver must respond")
    max_attempts: int = Field(
        8,
        ge=1,
        le=20,
        description="requests for one event, including the first one. The delay before the second is 2 seconds; each "
        "further one is four times as long, and at most an hour",
    )
    keep_days: int = Field(7, ge=1, description="days for which finished deliveries are listed")

    @field_validator("allowed_hosts")
    @classmethod
    def _lower(cls, hosts: list[str]) -> list[str]:
        return [host.lower() for host in hosts]


class LimitSettings(Strict):
    """Limits of requests."""

    max_body_bytes: int = Field(
        32 * 1024**2, ge=1024, description="maximum size in bytes of a request's body that contains pictures"
    )
    max_json_bytes: int = Field(
        1024**2, ge=1024, description="maximum size in bytes of a request's body without pictures"
    )
    max_bytes_in_flight: int = Field(
        64 * 1024**2,
        ge=1024,
        description="maximum size in bytes of all bodies that a process receives or holds at the same time; a request "
        "beyond that gets 503. A body takes up to four times its size in memory while it is parsed",
    )
    max_concurrent_requests: int = Field(
        64, ge=1, description="concurrent requests of a process, except health checks; a request beyond that gets 503"
    )
    max_concurrent_requests_per_key: int = Field(
        32, ge=1, description="concurrent requests of an API key in a process; a request beyond that gets 503"
    )
    headers_timeout_s: float = Field(
        10.0,
        gt=0,
        description="seconds in which the headers of a request must arrive; the connection is then closed",
    )
    body_timeout_s: float = Field(
        60.0, gt=0, description="seconds in which the body of a request must arrive, except archives"
    )
    idle_timeout_s: float = Field(
        20.0, gt=0, description="seconds without progress after which a request is ended that sends or reads too slowly"
    )
    max_image_bytes: int = Field(20 * 1024**2, ge=1024, description="maximum size of a picture in bytes")
    max_archive_bytes: int = Field(
        4 * 1024**3, ge=1024, description="maximum size of a bulk enrolment's zip archive in bytes"
    )
    max_image_pixels: int = Field(
        50_000_000, ge=1024, description="maximum number of pixels of a picture, checked before decoding"
    )
    max_decode_seconds: float = Field(
        2.0, gt=0, description="maximum CPU time for decoding a picture in seconds; the decoding process is then killed"
    )
    max_decode_memory_mb: int = Field(
        1024, ge=64, description="maximum memory for decoding a picture in MiB; 50 megapixels need 350, as WebP 750"
    )
    max_faces: int = Field(64, ge=1, description="maximum number of faces of a picture that are embedded")
    max_candidates: int = Field(
        2000, ge=1, description="maximum number of candidates of a search: faces of the picture times `top_k`"
    )
    max_compared_templates: int = Field(
        5000,
        ge=2,
        le=50_000,
        description="maximum number of templates that a gallery report compares with each other; a larger collection "
        "is sampled",
    )
    max_response_bytes: int = Field(
        8 * 1024**2, ge=1024, description="maximum size in bytes of a response, except exports and downloads of jobs"
    )
