"""What our lint rules add to cfn-lint's time: `make bench-lint [ARGS=FOLDER]`, the least of 5 runs.

Over build/ for two regions and for the regions that `make lint` asks for, over all templates of the
fixtures, and over a folder of yours. The time is the processor's: a busy machine does not lengthen
it.
"""

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
RULES = ROOT / "scripts" / "eventstacks" / "lint"
FEW, MANY = (
    ["us-east-1", "eu-west-1"],
    ["us-east-1", "eu-west-1", "cn-north-1", "cn-northwest-1", "us-gov-east-1", "us-gov-west-1"],
)
RUNS, MOST = 5, 15  # per cent


def measure(files: list[Path], regions: list[str], *options: str) -> float:
    """Seconds of processor time that one cfn-lint takes, away from our .cfnlintrc."""
    program = Path(sys.executable).with_name("cfn-lint")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [program, "--regions", *regions, *options, "--", *files],
            cwd=folder,
            check=False,
            capture_output=True,
            timeout=600,
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(folders: list[str]) -> int:
    fixtures = sorted((ROOT / "tests" / "fixtures").rglob("*.yaml"))
    build = sorted((ROOT / "build").glob("*.yaml"))
    sets = [
        ("build/", build, FEW),
        ("build/ in all partitions", build, MANY),
        ("fixtures", fixtures, FEW),
    ]
    for folder in folders:
        found = [
            one
            for one in Path(folder).resolve().rglob("*")
            if one.suffix in {".yaml", ".yml", ".json"}
        ]
        sets += [(folder, found, FEW)]
    worst = 0.0
    print(f"{'':32} {'files':>6} {'without':>9} {'with':>9} {'added':>7}")
    for name, files, regions in sets:
        pairs = [
            (measure(files, regions), measure(files, regions, "-a", str(RULES)))
            for _ in range(RUNS)
        ]
        without, ours = (min(times) for times in zip(*pairs, strict=True))
        added = (ours / without - 1) * 100
        worst = max(worst, added)
        print(f"{name[-32:]:32} {len(files):6} {without:7.2f} s {ours:7.2f} s {added:5.1f} %")
    return int(worst > MOST)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
