"""Takes the numbers of docs/gpu.md into the results: `python benchmarks/gpu_recorded.py`.

They were measured on a card that is not at hand here, by `gpu_training.py` and `gpu_decoding.py`,
and written down there with what they mean. Nothing is measured by this program.
"""

import sys
from pathlib import Path

from recording import RESULTS, Cell, Lever, Result, Section, Table, record

PAGE = Path(__file__).resolve().parents[1] / "docs" / "gpu.md"
WHERE = (
    "Taken from [gpu.md](gpu.md), which tells more: one NVIDIA H200, 1.04 B random weights in "
    "bfloat16. **Not measured again since.**"
)
LEVERS = {
    "training": (
        Lever(
            "FlashAttention 2 instead of SDPA on padded rows",
            kept=False,
            numbers="0.94 to 0.98 times as fast: torch's SDPA runs the same algorithm there",
        ),
        Lever(
            "Packing, with FlashAttention 2",
            kept=False,
            numbers="within 12 % of padding: micro-batches are sorted by length",
        ),
        Lever(
            "Packing, with SDPA",
            kept=False,
            numbers="1.7 times as long: a masked attention over the whole row, as it was when this "
            "was measured",
        ),
    ),
    "decoding": (),
}
NOTES = {
    "training": (),
    "decoding": (
        (
            "One CUDA graph per token: 2.8 to 4.4 times the tokens/s of the sampler with SDPA, in "
            "a loop beside it that has no rows that leave early, no padding and no "
            "log-probabilities."
        ),
        (
            "Continuous batching: 1.7 to 4.4 times the tokens/s of the sampler with "
            "FlashAttention 2, 0.5 to 0.9 times those of the CUDA graph; it keeps no "
            "log-probabilities."
        ),
    ),
}
MISSING = {
    "training": "torch 2.13 of the lock (these are of 2.11), several GPUs, other cards, SDPA's "
    "memory by itself.",
    "decoding": "CUDA graphs in the trainer, whose sampler replays none; continuous batching with "
    "SDPA; MFU of decoding; torch 2.13 of the lock (these are of 2.11).",
}


def tables_of(page: str) -> list[Table]:
    """Return the tables of the page, each under its heading."""
    found = []
    for section in page.split("\n## ")[1:]:
        heading, *lines = section.splitlines()
        columns, _, *rows = [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in lines
            if line.startswith("|")
        ]
        title = f"{heading}: medians of three"
        found.append(Table(title, tuple(columns), tuple(tuple(map(cell, row)) for row in rows)))
    return found


def cell(text: str) -> Cell:
    """Return a number where the page has a whole one."""
    plain = text.replace(",", "")
    return int(plain) if plain.isdecimal() else text


def main(folder: Path = RESULTS) -> None:
    """Leave a result for each of the page's two tables."""
    tables = tables_of(PAGE.read_text(encoding="utf-8"))
    for (what, levers), table in zip(LEVERS.items(), tables, strict=True):
        record(
            Result(
                name=f"gpu-{what}",
                section=Section.GPU,
                title=table.title.partition(":")[0],
                measured=WHERE,
                command=f"torchrun benchmarks/gpu_{what}.py --attention SDPA --results FILE",
                tables=(table,),
                levers=levers,
                notes=NOTES[what],
                unmeasured=MISSING[what],
            ),
            folder,
        )


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
