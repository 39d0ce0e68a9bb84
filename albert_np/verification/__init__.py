"""Is another ALBERT right? Golden files, comparison, diagnosis, live candidates, kernels."""
