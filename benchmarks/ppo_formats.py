"""Our PPO in 32 and in 16 bits on a CPU, in turns: `ppo_formats.py --case b c`.

Of use where the CPU multiplies BFloat16 itself (`avx512_bf16` or `amx_bf16` in /proc/cpuinfo);
elsewhere it takes many times as long as Float32.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ppo_variants import Variant, compare, parser_of
from recording import Result, Section, conditions, load, record
from turns import ALLOCATOR

INSTRUCTIONS = ("avx512_bf16", "amx_bf16")
NOTE = (
    "BFloat16 is the manifest's to choose and not what Auto chooses: without such instructions it "
    "is many times slower, and the numbers of a step differ."
)


def main(argv: Sequence[str]) -> None:
    """Measure what is asked for and leave the result."""
    parser = parser_of(__doc__)
    parser.add_argument("--ppo", type=json.loads, default={}, help="JSON: fields of spec.ppo")
    asked = parser.parse_args(argv)
    before = load()
    formats = ("Float32", "BFloat16")
    variants = [Variant(name, ppo=asked.ppo, model={"dtype": name}) for name in formats]
    result = Result(
        name="ppo-formats",
        section=Section.TRAINING,
        title="PPO in 32 and in 16 bits",
        measured=(
            "Our PPO with `model.dtype` Float32, what Auto chooses on a CPU, and BFloat16, on the "
            f"cases above. {_instructions()} Steps are taken in turns; a number is the median of "
            f"{asked.rounds} after a warm-up."
        ),
        command="python benchmarks/ppo_formats.py",
        tables=(compare(asked, "format", variants),),
        conditions=conditions(before, settings=ALLOCATOR),
        notes=(NOTE,),
    )
    print(f"left {record(result, asked.results)}", flush=True)


def _instructions() -> str:
    """Return whether the CPU multiplies BFloat16, in a sentence."""
    known = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    found = [f"`{one}`" for one in INSTRUCTIONS if one in known]
    return f"The CPU has {' and '.join(found) or 'no instructions for BFloat16'}."


if __name__ == "__main__":
    main(sys.argv[1:])
