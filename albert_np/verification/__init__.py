"""Is another ALBERT right? Golden files, comparison to rounding, and what is wrong where."""
