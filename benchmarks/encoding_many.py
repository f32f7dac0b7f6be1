"""How much memory and time do a million texts take, and are the bits the same after a kill?

    python benchmarks/encoding_many.py                       # a million short texts, a cheap encoder of width 64
    python benchmarks/encoding_many.py --encoder tfidf       # word counts of width 256
    python benchmarks/encoding_many.py --texts 2000 --encoder bert

Each row is a process of its own: `encode_stream` with a `CachedEncoder` to a .npy file. A tenth of the texts has come
before. "unbroken" begins with an empty cache; "killed" is the same with a SIGKILL at about half of the rows; "resumed"
goes on from there, and its file is compared with the unbroken one byte by byte; "again" finds every text in the cache.
Peak: the most memory that the process held (resident), and how much of it was there before the first text. The cheap
encoder adds up one random vector for each word, so that what is measured is all but the encoder.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recworld.encoders import BertEncoder, CachedEncoder, EncoderSettings, TfidfEncoder, encode_stream
from recworld.encoders.base import clean_texts, unit_rows
from recworld.seeding import generator

WORDS = 20_000
REPEATED = 10
"""Every so manieth text is one that came before."""


class HashEncoder:
    """Unit sums of one random vector of width W for each word."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.fingerprint = f"benchmark-hash-{width}"
        self._table = generator(0, "words").standard_normal((1 << 15, width)).astype(np.float32)

    def encode(self, texts: Sequence[str]) -> Any:
        """Return (n, W) float32."""
        vectors = np.zeros((len(texts), self.width), np.float32)
        for n, text in enumerate(clean_texts(texts)):
            places = [
                int.from_bytes(word.encode()[-7:], "little") * 2654435761 % (1 << 15) for word in text.split()
            ]
            vectors[n] = self._table[places].sum(axis=0)
        return unit_rows(vectors)


def texts(number: int) -> Iterator[str]:
    """Yield short titles; every `REPEATED`-th is an earlier one."""
    for n in range(number):
        m = n // 2 if n % REPEATED == REPEATED - 1 else n
        a, b, c = (m * k % WORDS for k in (7919, 104729, 1299709))
        yield f"The w{a} of w{b} and w{c} ({1920 + m % 100}). Genre{m % 18}, number {m}"


def encoder(name: str) -> Any:
    """Return an encoder by its name."""
    if name == "hash":
        return HashEncoder(64)
    if name == "tfidf":
        return TfidfEncoder.fit(list(texts(20_000)))
    return BertEncoder(EncoderSettings(device="cpu"))


def rss() -> float:
    """Return the most memory that this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def child(name: str, number: int, out: Path, cache: Path) -> None:
    """Encode and print figures as JSON."""
    inner = encoder(name)
    inner.encode(["one text"])
    before, began, worked = rss(), time.perf_counter(), time.process_time()
    encode_stream(texts(number), out, CachedEncoder(inner, cache))
    seconds, cpu = time.perf_counter() - began, time.process_time() - worked
    print(json.dumps({"seconds": seconds, "cpu": cpu, "before": before, "peak": rss()}))


def run(options: argparse.Namespace, out: Path, cache: Path, kill_at: int | None = None) -> dict[str, float]:
    """Run a child to its end, or kill it when so many rows are done."""
    command = [sys.executable, __file__, "--encoder", options.encoder, "--texts", str(options.texts)]
    command += ["--child", str(out), str(cache)]
    state = out.with_name(out.name + ".part.json")
    environment = os.environ | {"RECWORLD_QUIET": "1"}
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        while kill_at is not None and process.poll() is None:
            rows = int(json.loads(state.read_text())["rows"]) if state.is_file() else 0
            if rows >= kill_at:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.05)
        output, _ = process.communicate()
    if kill_at is None:
        return dict(json.loads(output))
    return {"rows": rows, "seconds": time.perf_counter() - began}


def same(one: Path, two: Path) -> bool:
    """Return whether two files hold the same bytes."""
    with one.open("rb") as a, two.open("rb") as b:
        while True:
            left, right = a.read(1 << 20), b.read(1 << 20)
            if left != right or not left:
                return left == right


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=int, default=1_000_000)
    parser.add_argument("--encoder", choices=["hash", "tfidf", "bert"], default="hash")
    parser.add_argument("--child", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.encoder, options.texts, *options.child)
        return
    print(f"{options.texts} texts, encoder {options.encoder}, load {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory(prefix="encoding-many-") as name:
        root = Path(name)

        def row(title: str, out: str, cache: str, done: float = 0) -> None:
            got = run(options, root / out, root / cache)
            shards = len(list((root / cache).glob("*/*.safetensors")))
            speed = (options.texts - done) / got["seconds"]
            print(
                f"  {title:9} {got['seconds']:7.1f} s ({got['cpu']:.1f} s of CPU), {speed:.0f} texts/s, peak "
                f"{got['peak']:.0f} MB ({got['before']:.0f} MB before the first text), {shards} shards",
                flush=True,
            )

        row("unbroken", "a.npy", "cache-a")
        killed = run(options, root / "b.npy", root / "cache-b", options.texts // 2)
        print(f"  killed    after {killed['rows']:.0f} rows, {killed['seconds']:.1f} s", flush=True)
        row("resumed", "b.npy", "cache-b", killed["rows"])
        row("again", "c.npy", "cache-a")
        size = (root / "a.npy").stat().st_size / 1e6
        equal = same(root / "a.npy", root / "b.npy") and same(root / "a.npy", root / "c.npy")
        print(f"  file of {size:.0f} MB; the three files hold {'the same' if equal else 'DIFFERENT'} bytes")
        if not equal:
            sys.exit(1)


if __name__ == "__main__":
    main()
