"""Ray Data over the dataset of `benchmarks.scoring`: arguments are source, target, cores; prints seconds."""

import sys
import time

import numpy as np
import ray
import torch

source, target, cores = sys.argv[1], sys.argv[2], int(sys.argv[3])


class Predict:
    def __init__(self) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        layers = torch.nn.Linear(128, 256), torch.nn.ReLU(), torch.nn.Linear(256, 8)
        self.net = torch.nn.Sequential(*layers).eval()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, object]:
        with torch.inference_mode():
            outputs = self.net(torch.from_numpy(np.stack(batch["x"]))).numpy()
        return {"id": batch["id"], "name": batch["name"], "prediction": list(outputs)}


ray.init(num_cpus=cores, include_dashboard=False, log_to_driver=False, configure_logging=False)
ray.data.DataContext.get_current().enable_progress_bars = False
began = time.perf_counter()
rows = ray.data.read_parquet(source, columns=["id", "name", "x"])
# Half a core each on paper: with whole ones, none is left for those who read and write.
rows.map_batches(Predict, batch_size=1024, concurrency=cores, num_cpus=0.5).write_parquet(target)
print(time.perf_counter() - began)
