"""S3 answers with errors, slowly, in parts or with wrong bytes: jobs wait, none fails and none has them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from shunter.storage.errors import ObjectStoreUnavailable
from tests.faults.arena import MODEL, Arena, arena, pass_time, size
from tests.faults.faulty_s3 import FAULTS, FaultyS3
from tests.object_store_servers import ACCESS_KEY, BUCKET, SECRET_KEY, moto_server
from tests.waiting import wait_until

pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]

ROW = "x" * 400_000
"""Large enough to be an object, before the model and behind it."""

READS_INPUT, WRITES_OUTPUT, WRITES_INPUT = ("GET", "/inputs/"), ("PUT", "/outputs/"), ("PUT", "/inputs/")
AT_ONCE = 3


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    with moto_server() as access:
        assert access.endpoint_url is not None
        with FaultyS3(access.endpoint_url) as faulty:
            monkeypatch.setenv("AWS_ENDPOINT_URL", faulty.url)
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            yield faulty


def test_no_wrong_answer_of_s3_fails_a_job_or_is_taken_for_its_rows(s3: FaultyS3, tmp_path: Path) -> None:
    with arena(tmp_path / "arena", max_attempts=3, object_store=f"s3://{BUCKET}/fleet") as place:
        hub = place.start_hub()
        for fault in FAULTS:
            seen = submit_until_healed(place, s3, fault)
            print(f"measured: {fault}: producers saw {dict(seen)}, {s3.struck[fault]} requests were struck")
            run_until_healed(place, s3, fault)
        assert not hub.dead
        assert place.epochs() >= {1}


def submit_until_healed(place: Arena, s3: FaultyS3, fault: str) -> Counter[str]:
    """Submits while inputs cannot be written as they should: refused as retryable, or accepted and right."""
    seen: Counter[str] = Counter()
    s3.strike(fault, WRITES_INPUT)
    accepted = []
    for _ in range(AT_ONCE):
        try:
            accepted.append(place.client.submit(MODEL, [ROW]))
            seen["accepted"] += 1
        except ObjectStoreUnavailable as error:
            seen[error.code] += 1
    s3.heal()
    for job in accepted:
        assert job.outputs() == [2 * ROW]
    return seen


def run_until_healed(place: Arena, s3: FaultyS3, fault: str) -> None:
    """Jobs whose inputs cannot be read, or whose outputs cannot be written, end when S3 is well again."""
    struck = s3.struck[fault]
    s3.strike(fault, READS_INPUT, WRITES_OUTPUT)
    jobs = [place.client.submit(MODEL, [ROW]) for _ in range(AT_ONCE)]
    wait_until(lambda: s3.struck[fault] > struck, 60)
    # What lies there damaged ends its job: only for a moment may it look so.
    pass_time(0 if fault == "damaged" else size(5, 60))
    s3.heal()
    for job in jobs:
        status = job.wait(120)
        assert status.state == "succeeded", status.error
        assert status.attempts <= (fault == "damaged")
        assert job.outputs() == [2 * ROW]
