"""Checks the results of background jobs and of model migrations."""

from collections import Counter

from tools.chaos.checks import Check
from tools.chaos.ledger import Ledger
from tools.chaos.stored import Stored

ENDED = {"done", "failed", "cancelled"}
ENROLMENT = "enrolment"


def check_job_ends(ledger: Ledger, stored: Stored) -> Check:
    """Checks that each acknowledged job exists, and that every job has ended."""
    check = Check("jobs ended")
    jobs = {str(row[0]): row for row in stored.jobs}
    for job in ledger.jobs:
        check.expect(job.job_id in jobs, f"the acknowledged job {job.job_id} does not exist")
    for job_id, (_, state, _, problem, kind) in jobs.items():
        check.expect(state in ENDED, f"the {kind} job {job_id} is {state}")
        if kind == ENROLMENT:
            check.expect(state == "done" or gave_up(problem), f"the job {job_id} is {state}: {problem}")
    known = {job.job_id for job in ledger.jobs}
    extra = [job_id for job_id, row in jobs.items() if row[4] == ENROLMENT and job_id not in known]
    check.expect(
        len(extra) <= ledger.unknown_jobs,
        f"{len(extra)} jobs exist that no request started; {ledger.unknown_jobs} requests have an unknown outcome",
    )
    return check


def check_job_rows(stored: Stored) -> Check:
    """Checks that each row of an enrolment has one result, and each template of a job's people one row."""
    check = Check("job rows processed exactly once")
    enrolments = {row[0] for row in stored.jobs if row[4] == ENROLMENT and row[1] == "done"}
    templates = {item.template_id: identity_id for identity_id, items in stored.templates.items() for item in items}
    results: Counter[str] = Counter()
    names = set()
    for job_id, number, external_id, status, identity_id, template_id, code, detail in stored.job_rows:
        if job_id not in enrolments:
            continue
        names.add(external_id)
        text = f"row {number} of the job {job_id}"
        check.expect(status == "accepted" or _is_crash(detail), f"{text} is {status}: {code}, {detail}")
        if status == "accepted":
            results[str(template_id)] += 1
            exists = templates.get(str(template_id)) == str(identity_id)
            check.expect(exists, f"{text} names a template that its identity does not have")
    for template_id, count in results.items():
        check.expect(count == 1, f"{count} job rows have the template {template_id}")
    for identity_id, external_id in stored.identities.items():
        if external_id in names:
            for item in stored.templates.get(identity_id, []):
                check.expect(results[item.template_id] == 1, f"{external_id} has a template without a job row")
    return check


def check_job_people(ledger: Ledger, stored: Stored) -> Check:
    """Checks that a job has enrolled each of its people with all pictures, and none whose erasure is acknowledged."""
    check = Check("people of jobs enrolled with all pictures")
    crashed = Counter((str(row[0]), row[2]) for row in stored.job_rows if _is_crash(row[7]))
    incomplete = {str(row[0]) for row in stored.jobs if gave_up(row[3])}
    for job in ledger.jobs:
        if job.job_id in incomplete:
            continue
        for external_id, pictures in job.pictures.items():
            identity_id = stored.ids.get((job.collection, external_id))
            count = len(stored.templates.get(identity_id or "", []))
            text = f"{external_id} of the job {job.job_id} has {count} templates"
            if external_id in job.erased:
                check.expect(identity_id is None, f"{text} after its erasure")
            elif external_id not in job.maybe_erased or identity_id is not None:
                expected = pictures - crashed[job.job_id, external_id]
                check.expect(count == expected, f"{text} instead of {expected}")
    return check


def gave_up(problem: str | None) -> bool:
    """Returns True if the service failed a job because its task was killed three times, as it must."""
    return problem is not None and "ended unexpectedly" in problem


def _is_crash(detail: str | None) -> bool:
    """Returns True if the service gave up a row because each worker that processed it was killed."""
    return detail is not None and "workers crashed" in detail


def check_migration(name: str, stored: Stored) -> Check:
    """Checks that a settled collection has one model, under which every face is stored."""
    check = Check("model migration in one consistent state")
    active, secondary = stored.models[name]
    check.expect(secondary is None, f"{name} still has the secondary model {secondary}")
    for (collection, external_id), identity_id in stored.ids.items():
        if collection == name:
            models = {item.model_id for item in stored.templates.get(identity_id, [])}
            check.expect(models == {active}, f"{name}/{external_id} has templates of {sorted(models)}, not of {active}")
            others = {model for person, model in stored.centroids if person == identity_id} - {active}
            check.expect(not others, f"{name}/{external_id} has centroids of {sorted(others)}")
    return check
