"""Scoring small images on an S3 server, beside a loop with threads that one would write by hand.

python -m benchmarks.scoring_files [--rows N] [--repetitions N]

Both read with boto3, decode with Pillow, and run one CNN with one thread of torch. Ten objects are missing
and ten are no images: those rows fail, and no other.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.report import Report, spread
from benchmarks.rig import Rig, rig, say
from shunter import Client
from tests.object_store_servers import ACCESS_KEY, BUCKET, SECRET_KEY, rclone_server

MISSING, CORRUPT = 10, 10
THREADS = (4, 8, 16)
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
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    files(arguments.rows, repetitions=arguments.repetitions).publish()


def files(rows: int, *, repetitions: int) -> Report:
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
            threads = max(THREADS, key=lambda count: _by_hand(bench, source, rows, count))
            bench.start_worker(SHUNTER_FETCH_FROM=f"s3://{BUCKET}")
            _score(bench, source, rows)
            loop, ours = [], []
            for repetition in range(repetitions):
                loop.append(_by_hand(bench, source, rows, threads))
                ours.append(_score(bench, source, rows))
                say(f"{repetition + 1} of {repetitions}: {ours[-1]:,.0f}/s, by hand {loop[-1]:,.0f}/s")
    report.row("Shunter, one worker", spread(ours), spread([a / b for a, b in zip(ours, loop, strict=True)]))
    report.row(f"hand loop, {threads} threads", spread(loop), 1)
    report.notes.append(f"{rows:,} images; {MISSING} missing and {CORRUPT} corrupt ones failed alone.")
    report.raw |= {"rows": rows, "ours": ours, "loop": loop, "threads": threads}
    return report


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
    for number in range(MISSING, rows):
        corrupt = number < MISSING + CORRUPT
        data = b"no image" if corrupt else digits[number % len(digits)]
        (bucket / "png" / f"{number:06}.png").write_bytes(data)
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
