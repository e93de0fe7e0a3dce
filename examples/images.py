"""Label image files: each row is a path, and a file that cannot be read fails alone."""

import random
import tempfile
from pathlib import Path

from shunter import Client

SIDE = 32

with tempfile.TemporaryDirectory() as folder, Client() as client:
    paths = [Path(folder) / f"{number}.ppm" for number in range(20)]
    for path in paths:
        grey = random.randbytes(1).strip() or b"!"  # an image of one colour
        path.write_bytes(b"P6 %d %d 255\n" % (SIDE, SIDE) + grey * SIDE * SIDE * 3)
    job = client.submit("images", [str(path) for path in [*paths, Path(folder) / "missing.ppm"]])
    for path, output in zip(paths, job.outputs(errors="none"), strict=False):
        print(path.name, output)
    (failure,) = job.errors()
    print(failure.code)
