"""Measure retrieval: numpy in, numpy out."""
