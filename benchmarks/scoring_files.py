"""Scoring small images on an S3 server, beside a loop with threads that one would write by hand.

python -m benchmarks.scoring_files [--rows N] [--repetitions N]

Both read with boto3, decode with Pillow, and run one CNN with one thread of torch. Ten objects are missing
and ten are no images: that those rows fail, and no other, and that all predictions are those of the loop, is
looked into after each turn.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import orjson
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.report import Report, spread
from benchmarks.rig import Rig, rig, say
from shunter import Client
from shunter.producers.showing import progress_bar
from tests.object_store_servers import ACCESS_KEY, BUCKET, SECRET_KEY, rclone_server

MISSING, CORRUPT = 10, 10
THREADS = (2, 4, 8, 16)
FIRST_ROWS = 1_000
"""So many images to find the best number of threads, and to start the engine."""

TOML = "[batching]\nmax_rows = 256\n"

NET = """
import io
import numpy as np, torch
from PIL import Image

def make_net():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 196, 10),
    ).eval()

def decode(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("L"), np.float32)[None] / 255
"""

MODEL = (
    NET
    + """
class Model:
    def load(self, directory, device):
        self.net = make_net()

    def preprocess(self, row):
        return decode(row)

    def forward(self, rows):
        return self.net(torch.from_numpy(np.stack(rows))).argmax(1).numpy()
"""
)

HAND_LOOP = (
    NET
    + """
import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor
import boto3, pyarrow as pa, pyarrow.parquet as pq
from botocore.config import Config

source, target, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
config = Config(max_pool_connections=32, s3={"addressing_style": "path"})
client, net = boto3.client("s3", config=config), make_net()

def fetch(url):
    bucket, _, key = url.removeprefix("s3://").partition("/")
    try:
        return decode(client.get_object(Bucket=bucket, Key=key)["Body"].read())
    except Exception:
        return None

urls = pq.read_table(source)["url"].to_pylist()
kept, predictions = [], []
with ThreadPoolExecutor(threads) as pool, torch.inference_mode():
    waiting, left = deque(), iter(urls)
    def more():
        url = next(left, None)
        if url is not None:
            waiting.append((url, pool.submit(fetch, url)))
    for _ in range(2 * 256):
        more()
    while waiting:
        batch = []
        while waiting and len(batch) < 256:
            url, future = waiting.popleft()
            more()
            if future.result() is not None:
                batch.append((url, future.result()))
        predictions += net(torch.from_numpy(np.stack([image for _, image in batch]))).argmax(1).tolist()
        kept += [url for url, _ in batch]
pq.write_table(pa.table({"url": kept, "prediction": predictions}), target)
"""
)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scoring_files", description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="*", default=THREADS, help="tried for the loop by hand")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    files(arguments.rows, repetitions=arguments.repetitions, threads=arguments.threads).publish()


def files(rows: int, *, repetitions: int, threads: Sequence[int] = THREADS) -> Report:
    """Images per second of one worker, each measurement right after one of the loop."""
    report = Report("scoring-files", ["what", "images/s, median (range)", "x hand loop"])
    with rig({"digits": MODEL}, TOML) as bench:
        buckets = bench.directory / "s3"
        buckets.mkdir()
        with rclone_server(buckets) as access:
            os.environ |= {
                "AWS_ENDPOINT_URL": str(access.endpoint_url),
                "AWS_ACCESS_KEY_ID": ACCESS_KEY,
                "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
                "AWS_DEFAULT_REGION": "us-east-1",
            }
            source = _write_images(buckets / BUCKET, bench.directory / "in.parquet", rows)
            first = _write_listing(bench.directory / "first.parquet", min(rows, FIRST_ROWS))
            tried = {count: _by_hand(bench, first, min(rows, FIRST_ROWS), count) for count in threads}
            best = max(tried, key=tried.__getitem__)
            bench.start_worker(SHUNTER_FETCH_FROM=f"s3://{BUCKET}")
            for _ in range(2):  # The second time with chunks as large as the rate wants.
                _score(bench, first, min(rows, FIRST_ROWS))
            loop, ours, server_s = [], [], []
            for repetition in range(repetitions):
                before = _server_seconds()
                loop.append(_by_hand(bench, source, rows, best))
                say(f"by hand {loop[-1]:,.0f}/s")
                between = _server_seconds()
                ours.append(_score(bench, source, rows))
                server_s.append((between - before, _server_seconds() - between))
                _check(bench)
                say(f"{repetition + 1} of {repetitions}: {ours[-1]:,.0f}/s")
    report.row("Shunter, one worker", spread(ours), spread([a / b for a, b in zip(ours, loop, strict=True)]))
    report.row(f"hand loop, {best} threads", spread(loop), 1)
    by_hand, by_fleet = (1000 * statistics.median(side) / rows for side in zip(*server_s, strict=True))
    report.notes += [
        f"{rows:,} images; {MISSING} missing and {CORRUPT} corrupt ones failed alone, and all other "
        "rows have the predictions of the loop.",
        f"The server (rclone) took {by_hand:.2f} s of a core for 1,000 images of the loop, and "
        f"{by_fleet:.2f} s for those of the fleet.",
    ]
    report.raw |= {"rows": rows, "ours": ours, "loop": loop, "threads": tried, "server_s": server_s}
    return report


def _server_seconds() -> float:
    """What the S3 server has computed so far, in seconds of one core."""
    servers = [child for child in psutil.Process().children() if "rclone" in child.name()]
    return sum(sum(server.cpu_times()[:2]) for server in servers)


def _check(bench: Rig) -> None:
    """Whether the bad rows failed alone, each with its own error, and the others have the loop's outputs."""
    output = bench.directory / "scored"
    files = sorted((output / "_errors").glob("*.jsonl"))
    told = {line["row"]: line["code"] for file in files for line in map(orjson.loads, file.open("rb"))}
    missing = {row for row, code in told.items() if code == "fetch_not_found"}
    assert missing == set(range(MISSING)), told
    assert told.keys() == set(range(MISSING + CORRUPT)), told
    ours = pa.concat_tables(pq.read_table(file) for file in sorted(output.glob("part-*.parquet")))
    by_hand = pq.read_table(bench.directory / "hand")
    assert ours.select(["url", "prediction"]).equals(by_hand), "the outputs differ; this is a bug"


def _write_images(bucket: Path, listing: Path, rows: int) -> Path:
    from PIL import Image
    from sklearn.datasets import load_digits

    say(f"writing {rows:,} images")
    digits = []
    for image in load_digits().images:
        sink = io.BytesIO()
        Image.fromarray((image * 15.9).astype("uint8")).resize((28, 28)).save(sink, "png")
        digits.append(sink.getvalue())
    (bucket / "png").mkdir()
    with progress_bar("images") as advance:
        for number in range(MISSING, rows):
            corrupt = number < MISSING + CORRUPT
            data = b"no image" if corrupt else digits[number % len(digits)]
            (bucket / "png" / f"{number:06}.png").write_bytes(data)
            advance(number + 1, rows)
    return _write_listing(listing, rows)


def _write_listing(listing: Path, rows: int) -> Path:
    urls = [f"s3://{BUCKET}/png/{number:06}.png" for number in range(rows)]
    pq.write_table(pa.table({"url": urls}), listing)
    return listing


def _by_hand(bench: Rig, source: Path, rows: int, threads: int) -> float:
    began = time.perf_counter()
    command = [sys.executable, "-c", HAND_LOOP, str(source), str(bench.directory / "hand"), str(threads)]
    subprocess.run(command, check=True)
    return rows / (time.perf_counter() - began)


def _score(bench: Rig, source: Path, rows: int) -> float:
    began = time.perf_counter()
    with Client(settings=bench.settings) as client:
        output = bench.directory / "scored"
        scoring = client.score("digits", source, output, fetch=["url"], keep=["url"], force=True)
        status = scoring.wait()
    seconds = time.perf_counter() - began
    assert (status.state, status.failed) == ("complete", MISSING + CORRUPT), status
    return rows / seconds


if __name__ == "__main__":
    main()
