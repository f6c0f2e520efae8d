"""The losses that encoders are trained with."""
