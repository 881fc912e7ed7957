"""The README as tests read it: what it tells users to do is what is tested."""

import re
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")


def readme_commands(name):
    """The lines of the block of shell commands below a comment with a name."""
    found = re.search(rf"^<!-- {name} -->\n```bash\n(.*?)^```$", README, re.M | re.S)
    assert found, f"README.md has lost the block {name}"
    return found[1].splitlines()
