"""The database side: encode, index and search."""
