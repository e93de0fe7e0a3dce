"""The loop one would write by hand: arguments are model, source, target, rows to a batch, threads.

Prints its seconds without those of its imports, and its peak RSS in MiB.
"""

import resource
import sys
import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.models import load_model

PART = 65_536

name, source, target, rows, threads = (
    sys.argv[1],
    sys.argv[2],
    sys.argv[3],
    int(sys.argv[4]),
    int(sys.argv[5]),
)


def network() -> Callable[[torch.Tensor], torch.Tensor]:
    """The model's own network."""
    network = load_model(name, threads=threads).network
    if name == "mlp":
        return network  # type: ignore[no-any-return]
    return lambda ids: network(ids, torch.ones(ids.shape, dtype=torch.bool))


began = time.perf_counter()
net, writer = network(), None
with torch.inference_mode():
    for batch in pq.ParquetFile(source).iter_batches(PART, columns=["id", "name", "x"]):
        x = batch["x"].flatten().to_numpy().reshape(len(batch), -1)
        y = torch.cat([net(torch.from_numpy(x[at : at + rows])) for at in range(0, len(x), rows)]).numpy()
        ends = pa.array(np.arange(len(y) + 1, dtype=np.int32) * y.shape[1])
        lists = pa.ListArray.from_arrays(ends, pa.array(y.reshape(-1)))
        table = pa.table({"id": batch["id"], "name": batch["name"], "prediction": lists})
        writer = writer or pq.ParquetWriter(target, table.schema)
        writer.write_table(table)
assert writer is not None, "there is at least one row; this is a bug"
writer.close()
print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
