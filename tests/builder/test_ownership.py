"""What identifies the code of a build."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.thorough
def test_any_change_of_code_or_of_a_template_is_another_code(tmp_path):
    """Shards that other code finished are not taken over, whatever the version number says."""
    shutil.copytree(ROOT / "builder", tmp_path / "builder", ignore=shutil.ignore_patterns("*.parquet", "__pycache__"))

    def hash_now():
        command = "from builder.ownership import code_hash; print(code_hash())"
        done = subprocess.run([sys.executable, "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout

    seen = {hash_now()}
    for name in ("pairs/dpf.py", "llm/templates/answer.yaml", "on_ray/nodes.py"):
        with (tmp_path / "builder" / name).open("a") as file:
            file.write("# another line\n")
        assert hash_now() not in seen
        seen.add(hash_now())
