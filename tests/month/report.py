"""The month in numbers, for people."""

from collections.abc import Mapping

from month.simulation import Summary

HOUR, DAY = 3600.0, 86400.0


def report(summary: Summary, took: float) -> str:
    """Some lines of text; `took` is how many real seconds it was."""
    account, reaped = summary.account, summary.reaped_after
    lines = [
        f"seed {summary.seed}: {summary.days:g} days of arrivals in {took:.1f} s",
        f"{summary.events} events, {summary.cycles} cycles, {summary.restarts} operator restarts",
        f"Tasks: {_listed(summary.tasks)}; each ended one with exactly one result",
        f"Jobs: {summary.jobs}; their workers ended: {_listed(summary.ends)}",
        f"Trouble: {_listed(summary.struck)}",
        "GPU-hours of the pool, and each as a share of the work that counted:",
    ]
    for name in ("used", "overhead", "lost", "wasted", "idle", "outage"):
        seconds = getattr(account, name)
        share = seconds / account.used if account.used else 0.0
        lines.append(f"  {name:<9}{seconds / HOUR:>10.1f} h {share:>8.2%}  {_MEANING[name]}")
    by = (f"{seconds / HOUR:.0f} h {word}" for word, seconds in sorted(account.lost_by.items()))
    lines.append(f"  lost by workers that ended as: {', '.join(by) or 'none'}")
    ratio = summary.makespan / summary.ideal if summary.ideal else 1.0
    lines.append(
        f"Makespan: {summary.makespan / DAY:.2f} days, ideal {summary.ideal / DAY:.2f} days "
        f"(ratio {ratio:.3f})"
    )
    if reaped:
        lines.append(
            f"Reaped: {len(reaped)} services of ended workers, "
            f"{reaped[len(reaped) // 2]:.1f} s after their end showed (median), "
            f"{reaped[int(0.95 * (len(reaped) - 1))]:.1f} s (95 %), {reaped[-1]:.1f} s (longest)"
        )
    cycles = sum(summary.reasons.values())
    shares = {reason: number / cycles for reason, number in summary.reasons.items()}
    said = (f"{share:.1%} {reason}" for reason, share in sorted(shares.items()) if share > 0.0005)
    lines.append(f"What the pool said, by share of cycles: {', '.join(said)}")
    lines.append(f"Most workers that one Task took down: {summary.most_crashes}")
    return "\n".join(lines)


_MEANING = {
    "used": "attempts whose result counts",
    "overhead": "starting, pushing, leaving",
    "lost": "work that had to be done again",
    "wasted": "workers that never had a Task",
    "idle": "free GPUs while Tasks waited and all was well",
    "outage": "free GPUs while Tasks waited and something was down",
}


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items())) or "none"
