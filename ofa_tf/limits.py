"""How large images may be, and how much memory decoding them takes."""

import os

MOST_IMAGE_BYTES = 256 << 20  # of a file
MOST_DECODED = 50_000_000  # pixels that an image is decoded to
MOST_JPEG = 120_000_000  # pixels that a JPEG may have, which can be decoded at half its size
LARGE = 16_000_000  # pixels; images with more are decoded one at a time, whatever the number of threads
BYTES_PER_PIXEL = 8  # Pillow keeps four, and a conversion makes another image


def decoding_memory() -> tuple[int, int]:
    """Threads that decode images, and the most megabytes that they need together."""
    threads = min(32, (os.cpu_count() or 1) + 4)  # of a `ThreadPoolExecutor`
    return threads, ((threads - 1) * LARGE + MOST_DECODED) * BYTES_PER_PIXEL // 10**6
