"""The tables of what runs on devices, from recorded figures."""

_RUNTIMES = {
    "python": "Python, ONNX Runtime",
    "browser": "Chromium, ONNX Runtime Web, own decoder",
    "jvm": "the app's core in a JVM, x86_64 library",
    "arm64": "the app's arm64 library, emulated",
}
_PAGE = {
    "browser.first_result_s": "page opened to first answer, nothing cached: s",
    "browser.transfer_mb": "sent to the browser until then: MB",
    "browser.warm_p50_ms": "decode and encode 640×480, two threads: ms",
    "browser.one_thread_warm_p50_ms": "the same, one thread: ms",
    "browser.camera_warm_p50_ms": "decode and encode 4000×3000, two threads: ms",
    "apk.arm64_mb": "app for phones alone, int8 encoder inside: MB",
}


def format_devices(figures: dict[str, float]) -> str:
    """Return the table of parity, and of what page and app cost."""
    lines = ["| runtime | least cosine to the golden vectors: fp32 | int8 |", "|---|---|---|"]
    for key, title in _RUNTIMES.items():
        cells = []
        for part in ("", ".int8"):
            found = figures.get(f"parity.{key}{part}.min_cosine")
            refused = "refused: this processor computes it wrongly"
            cells.append(refused if found is None else f"{found:.4f}")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    lines += ["", "| page and app | |", "|---|---|"]
    lines += [f"| {title} | {figures[key]:.1f} |" for key, title in _PAGE.items()]
    return "\n".join(lines)
