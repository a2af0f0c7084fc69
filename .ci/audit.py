#!/usr/bin/env python3
"""Hold the locked dependencies against PyPI's advisories; say so where these cannot be reached.

``.ci/audit.py PIP_AUDIT CONSTRAINTS``. Exit codes: 0 no known vulnerability, or no advisory could
be read, which is said; 1 vulnerabilities, each named with the version that mends it; 2 pip-audit
itself failed.
"""

import json
import subprocess
import sys


def main() -> int:
    """Run pip-audit on the constraints and tell what it found."""
    tool, constraints = sys.argv[1:]
    command = [tool, "--disable-pip", "--no-deps", "--requirement", constraints]
    told = subprocess.run(
        [*command, "--format", "json", "--progress-spinner", "off"],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        found = json.loads(told.stdout)["dependencies"]
    except ValueError:
        print(f"audit: pip-audit failed:\n{told.stderr[-2000:]}", file=sys.stderr)
        return 2
    return _tell(found)


def _tell(found: list[dict]) -> int:
    audited = [one for one in found if "skip_reason" not in one]
    lines = [
        f"audit: {one['name']} {one['version']}: {flaw['id']}, mended in "
        f"{', '.join(flaw['fix_versions']) or 'no version yet'}"
        for one in audited
        for flaw in one["vulns"]
    ]
    skipped = [one["name"] for one in found if "skip_reason" in one]
    if not audited:
        lines.append("audit: NOT DONE: PyPI's advisories cannot be reached from this machine")
    elif skipped:
        lines.append(f"audit: not on PyPI, so not audited: {', '.join(skipped)}")
    lines.append(f"audit: {len(audited)} of {len(found)} locked packages were audited")
    print("\n".join(lines))
    return int(any(one["vulns"] for one in audited))


if __name__ == "__main__":
    sys.exit(main())
