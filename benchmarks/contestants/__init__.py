"""Who is measured: one small file each, all with the interface of `benchmarks.contest.Contestant`."""
