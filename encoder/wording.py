"""How counts are told."""


def counted(count: int, noun: str) -> str:
    """Return a count and its noun, as "1 image", "2,000 images" or "3 classes"."""
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{count:,} {noun if count == 1 else plural}"
