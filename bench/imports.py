"""How long `import microtome` and `microtome --help` take in a fresh process: limits 0.3 s and 0.5 s, without torch.

The best of several runs: what the machine needs when nothing else is in its way. The interpreter's own start is part of it.
"""

import subprocess
import sys
import time

from rows import say, within

RUNS = 7
NO_TORCH = "; import sys; assert 'torch' not in sys.modules and 'transformers' not in sys.modules"


def best(arguments: list[str]) -> float:
    """Seconds of the fastest of `RUNS` fresh processes."""
    taken: list[float] = []
    for _ in range(RUNS):
        began = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True, stdin=subprocess.DEVNULL)
        taken.append(time.perf_counter() - began)
    say(f"{' '.join(arguments)[:60]}: {', '.join(f'{seconds:.3f}' for seconds in taken)} s")
    return min(taken)


def main() -> None:
    subprocess.run([sys.executable, "-c", "import microtome" + NO_TORCH], check=True)
    subprocess.run([sys.executable, "-c", "from microtome.cli.app import run; run(['--help'])" + NO_TORCH], check=True, capture_output=True)
    equal = "torch and transformers not imported"
    within("import microtome", best(["-c", "import microtome"]), limit=0.3, unit="s", equal=equal)
    within("microtome --help", best(["-m", "microtome", "--help"]), limit=0.5, unit="s", equal=equal)


if __name__ == "__main__":
    main()
