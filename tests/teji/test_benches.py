import pytest

from teji import benches
from tests.teji.commands import ROOT


def test_a_module_with_a_main_is_a_bench_and_says_what_it_measures() -> None:
    found = benches.benches()
    assert "decode" in found
    assert not {"frames", "report"} & found.keys()
    assert all(found.values())
    assert all((ROOT / "bench" / f"{name.replace('-', '_')}.py").exists() for name in found)


def test_without_a_name_there_is_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    benches.main(None, as_json=False)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(benches.benches())


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(benches.Unknown, match="decode"):
        benches.main("warp-speed", as_json=False)
