"""Pretraining ALBERT: masking, sentence order, the optimizer, the loop, and the tiny recipe."""
