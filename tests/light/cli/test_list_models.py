"""`convnext list`, as it is read and as programs read it."""

import json

import pytest

from convnext.cli.main import main
from convnext.weights.catalog import get_checkpoint, list_models


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CONVNEXT_CACHE", str(tmp_path))
    monkeypatch.delenv("COLUMNS", raising=False)


def test_table(capsys):
    assert main(["list", "--size", "tiny"]) == 0
    assert (
        capsys.readouterr().out
        == """\
NAME                                     PARAMS   MADDS   PX  CLASSES  TOP-1  LICENCE
convnext_tiny.fb_in1k                     28.6M   4.47G  224     1000   82.1  MIT
convnext_tiny.fb_in22k                    44.6M   4.49G  224    21841      -  MIT
convnext_tiny.fb_in22k_ft_in1k            28.6M   4.47G  224     1000   82.9  MIT
convnext_tiny.fb_in22k_ft_in1k_384        28.6M  13.14G  384     1000   84.1  MIT
convnext_tiny.in12k                       36.9M   4.48G  224    11821      -  Apache-2.0
convnext_tiny.in12k_ft_in1k               28.6M   4.47G  224     1000   84.2  Apache-2.0
convnext_tiny.in12k_ft_in1k_384           28.6M  13.14G  384     1000   85.2  Apache-2.0
convnext_tiny.keras                       28.6M   4.47G  224     1000   82.1  MIT
convnext_tiny.keras_notop                 27.8M   4.47G  224        -      -  MIT
convnextv2_tiny.fcmae_ft_in1k             28.6M   4.47G  224     1000   82.9  CC-BY-NC-4.0
convnextv2_tiny.fcmae_ft_in22k_in1k       28.6M   4.47G  224     1000   83.9  CC-BY-NC-4.0
convnextv2_tiny.fcmae_ft_in22k_in1k_384   28.6M  13.14G  384     1000   85.1  CC-BY-NC-4.0
convnextv2_tiny.fcmae                     27.9M   4.47G  224        -      -  CC-BY-NC-4.0
"""
    )


def test_narrow_table_keeps_size_accuracy_and_licence(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    assert main(["list", "*.fb_in1k_384"]) == 0
    assert (
        capsys.readouterr().out
        == """\
NAME                        PARAMS    MADDS   PX  TOP-1  LICENCE
convnext_base.fb_in1k_384    88.6M   45.21G  384   85.1  MIT
convnext_large.fb_in1k_384  197.8M  101.10G  384   85.5  MIT
"""
    )


def test_everything_is_listed_by_default(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == list_models()


def test_filters_are_passed_on(capsys):
    assert main(["list", "*_384", "--family", "v2", "--size", "nano", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {
            "name": "convnextv2_nano.fcmae_ft_in22k_in1k_384",
            "parameters": 15_623_800,
            "macs": 7_215_112_320,
            "resolution": 384,
            "num_classes": 1000,
            "top1": 83.4,
            "timm_top1": 83.366,
            "timm_top5": 96.74,
            "licence": "CC-BY-NC-4.0",
        }
    ]


def test_cached_lists_only_what_is_here_and_where(capsys, tmp_path):
    row = get_checkpoint("convnext_atto")
    file = tmp_path / row.name / "timm" / "model.safetensors"
    file.parent.mkdir(parents=True)
    file.touch()

    assert main(["list", "--cached"]) == 0
    titles, line = capsys.readouterr().out.splitlines()
    assert titles.endswith("FILE")
    assert line.startswith(row.name)
    assert line.endswith(str(file))

    assert main(["list", "--cached", "--json"]) == 0
    [record] = json.loads(capsys.readouterr().out)
    assert (record["name"], record["file"]) == (row.name, str(file))


def test_nothing_to_list_is_said_and_is_exit_code_1(capsys):
    assert main(["list", "tiny"]) == 1
    assert capsys.readouterr().out == "No checkpoint is named 'tiny'; try '*tiny*'.\n"
    assert main(["list", "--cached"]) == 1
    assert "No such checkpoint is on this machine" in capsys.readouterr().out
    assert main(["list", "tiny", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == []


def test_an_unknown_size_is_an_error(capsys):
    assert main(["list", "--size", "tinny"]) == 2
    assert "Did you mean 'tiny'?" in capsys.readouterr().err
