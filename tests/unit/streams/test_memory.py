"""A file of any size streams through a producer's path in bounded memory: peak of a process of its own, without torch."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.timeout(900)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory where Linux tells it")
@pytest.mark.parametrize(("form", "megabytes", "growth"), [
    ("csv", 16, 30), ("long-rows", 16, 60), *(
        pytest.param(form, 300, 80, marks=pytest.mark.slow) for form in ("csv", "gzip", "parquet", "long-rows"))])
def test_resident_memory_does_not_follow_the_size_of_the_file(tmp_path, monkeypatch, form, megabytes, growth):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from reading import measure

    got = measure(form, megabytes, tmp_path)
    assert got["file_mb"] > 0.3 * megabytes
    assert got["peak_mib"] < got["imports_mib"] + growth
