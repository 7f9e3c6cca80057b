"""Write requirements*.txt from the dependency groups of pyproject.toml: exact versions, hashes, no registry address.

The development file is resolved first and holds every group, so the service files are cut from the
same choice of versions. Run as `task lock`; `task lock -- --upgrade` takes newer versions.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# File -> dependency group, in the order of resolution.
FILES = {
    "requirements-dev.txt": "dev",
    "requirements.txt": "runtime",
    "requirements-gateway.txt": "gateway",
    "requirements-ingest.txt": "ingest",
    "requirements-relay.txt": "relay",
    "requirements-deals.txt": "deals",
    "requirements-orders.txt": "orders",
    "requirements-payments.txt": "payments",
    "requirements-plans.txt": "plans",
}
_ADDRESS = re.compile(r"://|--(index|extra-index|find-links|trusted-host)")


def compile_group(file: str, group: str, options: list[str]) -> str:
    """Resolve one group into `file` and return what uv wrote."""
    uv = Path(sys.executable).with_name("uv")
    constraints = [] if group == "dev" else ["--constraint", "requirements-dev.txt"]
    command = [
        str(uv), "pip", "compile", "--quiet", "--group", group, "--output-file", file,
        "--universal", "--python-version", "3.11", "--generate-hashes", "--no-emit-index-url", "--no-emit-find-links",
        "--no-annotate", "--no-header", *constraints, *options,
    ]  # fmt: skip
    subprocess.run(command, cwd=ROOT, check=True)
    return (ROOT / file).read_text()


def main(options: list[str]) -> int:
    """Lock every file; 1 where one of them would name an address."""
    for file, group in FILES.items():
        text = compile_group(file, group, options)
        if _ADDRESS.search(text):
            print(f"{file} names an address; it must not be committed", file=sys.stderr)
            return 1
        header = f"# Made by `task lock` from the dependency group `{group}` of pyproject.toml; not edited by hand.\n"
        (ROOT / file).write_text(header + text)
        print(f"{file}: {text.count('==')} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
