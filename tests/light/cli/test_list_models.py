"""`convnext list`, as text and as JSON."""

import json

import pytest

from convnext.cli.main import main
from convnext.weights.catalog import TASKS, get_checkpoint, list_models


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CONVNEXT_CACHE", str(tmp_path))
    monkeypatch.delenv("COLUMNS", raising=False)


def test_a_table_for_each_task(capsys):
    assert main(["list", "convnext_tiny.*[12]k", "--licence", "mit"]) == 0
    assert (
        capsys.readouterr().out
        == """\
NAME                               PARAMS  MADDS   PX  CLASSES  TOP-1  LICENCE
convnext_tiny.fb_in1k           *   28.6M  4.47G  224     1000   82.1  MIT
convnext_tiny.fb_in22k              44.6M  4.49G  224    21841      -  MIT
convnext_tiny.fb_in22k_ft_in1k      28.6M  4.47G  224     1000   82.9  MIT
"""
    )
    assert main(["list", "--size", "xxlarge"]) == 0
    assert (
        capsys.readouterr().out
        == """\
classification (2): these give the class of a picture

NAME                                            PARAMS    MADDS   PX  CLASSES  TOP-1  LICENCE
convnext_xxlarge.clip_laion2b_soup_ft_in12k     879.7M  198.12G  256    11821      -  Apache-2.0
convnext_xxlarge.clip_laion2b_soup_ft_in1k   *  846.5M  198.09G  256     1000   88.6  Apache-2.0

clip (3): these give a vector for each picture that can be compared with those of texts

NAME                                  PARAMS    MADDS   PX  VECTOR  ZERO-SHOT  LICENCE
convnext_xxlarge.clip_laion2b_augreg  846.5M  198.09G  256    1024       79.1  MIT
convnext_xxlarge.clip_laion2b_rewind  846.5M  198.09G  256    1024       79.3  MIT
convnext_xxlarge.clip_laion2b_soup    846.5M  198.09G  256    1024       79.5  MIT
"""
    )


def test_encoders_and_embedding_models_have_a_table_of_their_own(capsys):
    assert main(["list", "--size", "large", "--task", "embedding", "--licence", "mit"]) == 0
    assert (
        capsys.readouterr().out
        == """\
NAME                        PARAMS   MADDS   PX  VECTOR  LICENCE
convnext_large.keras_notop  196.2M  34.40G  224    1536  MIT
"""
    )
    assert main(["list", "--task", "encoder", "--size", "atto"]) == 0
    assert capsys.readouterr().out.split()[-3:] == ["224", "-", "CC-BY-NC-4.0"]


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
    first = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line]
    listed = [word for word in first if "." in word]
    assert sorted(listed) == sorted(list_models())
    assert [word for word in first if word in TASKS] == list(TASKS)


def test_filters_are_passed_on(capsys):
    assert main(["list", "*_384", "--family", "v2", "--size", "nano", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {
            "name": "convnextv2_nano.fcmae_ft_in22k_in1k_384",
            "task": "classification",
            "parameters": 15_623_800,
            "macs": 7_215_112_320,
            "resolution": 384,
            "num_classes": 1000,
            "projection": 0,
            "top1": 83.4,
            "timm_top1": 83.366,
            "timm_top5": 96.74,
            "zero_shot_top1": None,
            "miou": None,
            "miou_multi_scale": None,
            "licence": "CC-BY-NC-4.0",
            "commercial": False,
        }
    ]
    assert main(["list", "--size", "tiny", "--commercial", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows
    assert all(row["commercial"] for row in rows)
    assert "CC-BY-NC-4.0" not in {row["licence"] for row in rows}


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


def test_an_empty_list_is_exit_code_1(capsys):
    assert main(["list", "tiny"]) == 1
    assert capsys.readouterr().out == "No checkpoint matches 'tiny'. Try '*tiny*'.\n"
    assert main(["list", "--cached"]) == 1
    assert "No such checkpoint is in the cache" in capsys.readouterr().out
    assert main(["list", "--task", "encoder", "--commercial"]) == 1
    assert "No checkpoint matches all options" in capsys.readouterr().out
    assert main(["list", "tiny", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == []


def test_an_unknown_size_is_an_error(capsys):
    assert main(["list", "--size", "tinny"]) == 2
    assert "Did you mean 'tiny'?" in capsys.readouterr().err
    assert main(["list", "--task", "embed"]) == 2
    assert (
        "Allowed: classification, segmentation, embedding, clip, encoder."
        in capsys.readouterr().err
    )


def test_segmentation_models_have_mean_intersections_over_unions(capsys):
    assert main(["list", "--size", "tiny", "--task", "segmentation"]) == 0
    assert (
        capsys.readouterr().out
        == """\
NAME                                     PARAMS    MADDS   PX  CLASSES  MIOU  SCALES  LICENCE
convnext_tiny.fb_in1k_upernet_ade20k      60.2M  234.73G  512      150  46.0    46.7  MIT
convnext_tiny.mmseg_in1k_upernet_ade20k   60.2M  234.73G  512      150  46.1    46.6  Apache-2.0
"""
    )
