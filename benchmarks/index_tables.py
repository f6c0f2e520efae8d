"""The tables of the index folder in docs, from its recorded figures."""

from index_chart import draw_sizes

_SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
_CODES = (
    ("flat", "`Flat`", (1,)),
    ("sqfp16", "`SQfp16`", (1,)),
    ("signs", "`BFlat`: signs", (1, 4, 16, 64)),
    ("rabitq", "`RaBitQ`", (1, 4, 16)),
    ("ivf_sq8", "`IVF2048,SQ8`", (1, 4)),
    ("ivf_pq", "`IVF2048,PQ128x4fs`", (1, 4, 16)),
    ("ivf_rabitq", "`IVF2048,RaBitQ`", (1, 4, 16)),
)


def format_sizes(figures: dict[str, float]) -> str:
    """Return the table of indexes chosen for more and more vectors."""
    lines = [
        "| vectors | recall at 10 | p50, p95 ms | bytes a vector held, on disk | built in s "
        "| opened in ms |",
        "|---|---|---|---|---|---|",
    ]
    for count in _SIZES:
        of = {name: figures[f"size.{count}.{name}"] for name in _FIGURES}
        lines.append(
            f"| {count:,} | {of['recall10']:.3f} | {of['p50_ms']:.2f}, {of['p95_ms']:.2f} "
            f"| {of['bytes_per_vector']:.0f}, {of['disk_bytes_per_vector']:.0f} "
            f"| {of['build_s']:.0f} | {1e3 * of['open_s']:.0f} |"
        )
    return "\n".join(lines)


_FIGURES = (
    "recall10",
    "p50_ms",
    "p95_ms",
    "bytes_per_vector",
    "disk_bytes_per_vector",
    "build_s",
    "open_s",
)


def draw_chart(figures: dict[str, float]) -> str:
    """Return the picture of the same indexes."""
    return draw_sizes(figures, _SIZES)


def format_codes(figures: dict[str, float]) -> str:
    """Return the table of codes, re-scored more and more."""
    lines = [
        "| kind | bytes a vector | re-scored × : recall at 10 (ms) |",
        "|---|---|---|",
    ]
    for key, title, rescores in _CODES:
        each = [
            f"{times}: {figures[f'codes.{key}.rescore{times}.recall10']:.3f} "
            f"({figures[f'codes.{key}.rescore{times}.p50_ms']:.2f})"
            for times in rescores
        ]
        held = figures[f"codes.{key}.rescore{rescores[0]}.bytes_per_vector"]
        lines.append(f"| {title} | {held:.0f} | {', '.join(each)} |")
    return "\n".join(lines)


def format_database(figures: dict[str, float]) -> str:
    """Return the table of what the folder costs beside FAISS, the disk and the network."""
    rows = (
        ("encoding photos: share of decoding and network alone", "encode.vs_limit", ".2f"),
        (
            "encoding photos: core-milliseconds an image beside both",
            "encode.outside_core_ms",
            ".2f",
        ),
        ("encoding photos: times as fast as a DataLoader", "encode.vs_dataloader", ".2f"),
        (
            "batches of queries: share of FAISS's speed, four kinds",
            "search.vs_faiss",
            ".2f",
        ),
        ("one query: microseconds beside FAISS, lists", "search.ivf.overhead_us", ".0f"),
        ("one query: microseconds beside FAISS, all of 20,000", "search.flat.overhead_us", ".0f"),
        ("building lists of 8-bit codes: share of FAISS's speed", "build.ivf.vs_faiss", ".2f"),
        ("building a graph: share of FAISS's speed", "build.hnsw.vs_faiss", ".2f"),
        ("building of 4-bit codes: share of FAISS's speed", "build.pq.vs_faiss", ".2f"),
        ("building a flat one: share of the disk's speed", "build.flat_vs_disk", ".2f"),
        ("HTTP, two processes: share of searches in one process", "http.vs_inprocess", ".2f"),
        ("ten minutes of searches and changes: MB of growth", "soak.rss_growth_mb", ".0f"),
        ("the same: p99 in ms, first and last fifth", "soak.p99_early_ms", ".1f"),
        ("writers killed; items lost", "crash.kills", ".0f"),
    )
    lines = ["| what | measured |", "|---|---|"]
    for title, name, form in rows:
        shown = format(figures[name], form)
        if name == "soak.p99_early_ms":
            shown += f", {figures['soak.p99_late_ms']:{form}}"
        if name == "crash.kills":
            shown += f"; {figures['crash.lost']:.0f}"
        lines.append(f"| {title} | {shown} |")
    return "\n".join(lines)
