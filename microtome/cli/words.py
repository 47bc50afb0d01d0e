"""Numbers in words: counts, durations, sizes, as every line of output writes them."""


def count(number: float) -> str:
    """Thousands in groups; a fraction only when it is one."""
    return f"{number:,.0f}" if float(number).is_integer() or abs(number) >= 100 else f"{number:,.2f}"


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3:05 min`, `1:02:03 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}:{rest:02d} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d} h"


def size(bytes: int) -> str:
    """`512 B`, `1.2 MB`, `3.4 GB`, in powers of 1000."""
    amount, unit = float(bytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"


def counted(number: int, thing: str) -> str:
    """`1 prompt`, `3 prompts`."""
    return f"{count(number)} {thing}{'' if number == 1 else 's'}"
