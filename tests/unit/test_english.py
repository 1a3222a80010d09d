"""Plain English: phrases that readers stumble over do not come back."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = {".py", ".md", ".yaml", ".yml", ".j2", ".toml", ".ndjson", ""}
NOT_OURS = ("tests/fixtures/", "tests/patterns/", "LICENSE", "tests/unit/test_english.py")
PHRASES = re.compile(
    r"""\b(
        mend(s|ed|ing)?
        | (?<!there[ ])is[ ]no[ ](?!longer|more|such|one|need)
        | (takes|knows)[ ]no
        | dead[ ]letters
        | says?[ ]how
        | hears?
        | stands[ ](?!for) | lies | rings
        | gone
        | under[ ]way
        | of[ ]one's[ ]own
        | nobody | whoever
        | puts?[ ]out
        | that[ ]it[ ]can[ ]pass
        | anew
        | for[ ]want[ ]of
    )\b""",
    re.IGNORECASE | re.VERBOSE,
)


def test_no_phrase_that_was_replaced_is_back():
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    found = [
        f"{name}:{number}: {phrase[0]!r}"
        for name in listed
        if Path(name).suffix in TEXT and not name.startswith(NOT_OURS) and (ROOT / name).is_file()
        for number, line in enumerate((ROOT / name).read_text(encoding="utf-8").splitlines(), 1)
        for phrase in [PHRASES.search(line)]
        if phrase
    ]
    assert found == []
