import importlib
import os
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_dml.data.datasets import in_shop
from tests.data.miniature_archives import change_line
from tests.data.miniature_archives import use_counts
from tests.data.miniature_archives import write_in_shop

LIST = "list_eval_partition.txt"
FOLDER = "In-shop Clothes Retrieval Benchmark"


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """Items of 3 and 2 images to train on; of 1 + 1, 2 + 1 and 2 + 3 to test on."""
    root = tmp_path / FOLDER
    use_counts(monkeypatch, "in_shop", write_in_shop(root))
    return root


def same(first, second):
    for one, other in zip(first, second, strict=True):
        assert [os.path.basename(path) for path in one.paths] == [
            os.path.basename(path) for path in other.paths
        ]
        assert one.labels.tolist() == other.labels.tolist()
        assert one.class_names == other.class_names
    assert first[1].is_query.tolist() == second[1].is_query.tolist()


def test_items_are_classes_and_the_test_has_queries_and_a_gallery(archive):
    train, test = in_shop(archive)
    assert train.class_names == ("id_00000001", "id_00000002")
    assert test.class_names == ("id_00000003", "id_00000004", "id_00000005")
    assert train.labels.tolist() == [0, 0, 0, 1, 1]
    assert test.labels.tolist() == [0, 1, 1, 2, 2, 0, 1, 2, 2, 2]
    assert test.is_query.tolist() == [True] * 5 + [False] * 5
    assert train.is_query is None
    women = f"{archive}/Img/img/WOMEN/Dresses"
    assert train.paths[-1] == f"{women}/id_00000002/01_train.jpg"
    for path, is_query in zip(test.paths, test.is_query, strict=True):
        assert path.endswith("query.jpg" if is_query else "gallery.jpg")


def test_folder_that_holds_it_will_do(archive):
    same(in_shop(archive), in_shop(str(archive.parent)))


@pytest.mark.parametrize("place", ["", "Anno"])
def test_list_may_lie_elsewhere(archive, place):
    before = in_shop(archive)
    (archive / place).mkdir(exist_ok=True)
    os.rename(archive / "Eval" / LIST, archive / place / LIST)
    same(before, in_shop(archive))


def test_images_may_lie_beside_the_list(archive):
    before = in_shop(archive)
    os.rename(archive / "Img" / "img", archive / "img")
    os.rename(archive / "Eval" / LIST, archive / LIST)
    same(before, in_shop(archive))


@settings(
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_white_space_and_blank_lines_do_not_matter(archive, data):
    kept = archive / "kept.txt"
    if not kept.exists():
        shutil.copy(archive / "Eval" / LIST, kept)
    space = st.text(" \t", min_size=1, max_size=60)
    ending = st.sampled_from(["\n", "\r\n", "\n\n", " \t\r\n\r\n"])
    text = ""
    for line in kept.read_text().splitlines():
        text += data.draw(space).join(line.split()) + data.draw(ending)
    shutil.copy(kept, archive / "Eval" / LIST)
    before = in_shop(archive)
    (archive / "Eval" / LIST).write_bytes(text.encode())
    same(before, in_shop(archive))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("img/x.jpg id_00000001", "3 columns .*got 2"),
        ("img/x y.jpg id_00000001 train", "3 columns .*got 4"),
        ("img/x.jpg id_00000001 val", "must be train, query or gallery; got 'val'"),
        ("img/x.jpg id_00000001 Train", "must be train, query or gallery"),
        (
            "img/x.jpg id_00000001 query",
            "item_id id_00000001 is both in train and in q",
        ),
        (
            "img/x.jpg id_00000001 gallery",
            "id_00000001 is both in train and in query or",
        ),
        ("img/MEN/Jackets_Vests/id_00000001/00_train.jpg id_9 train", "appears twice"),
        ("img/../../x.jpg id_00000001 train", "image_name must be a path inside"),
        ("/img/x.jpg id_00000001 train", "image_name must be a path inside"),
    ],
)
def test_hostile_line_is_named(archive, line, message):
    change_line(archive / "Eval" / LIST, 5, line)
    with pytest.raises(ValueError, match=rf"{LIST}', line 5: .*{message}"):
        in_shop(archive)


def test_item_that_is_trained_on_after_it_was_a_query_is_named(archive):
    change_line(archive / "Eval" / LIST, 17, "img/x.jpg id_00000003 train")
    with pytest.raises(
        ValueError, match=rf"{LIST}', line 17: item_id id_00000003 is bo"
    ):
        in_shop(archive)


@pytest.mark.parametrize("count", ["fifteen", "", "15 rows"])
def test_first_line_that_is_no_count_is_named(archive, count):
    change_line(archive / "Eval" / LIST, 1, count)
    with pytest.raises(
        ValueError, match=rf"{LIST}', line [12]: must be the number of r"
    ):
        in_shop(archive)


@pytest.mark.parametrize(
    "header",
    [
        "image_name  evaluation_status",
        "image_pair_name_1 image_pair_name_2 item_id evaluation_status",
    ],
)
def test_list_of_another_benchmark_is_refused(archive, header):
    change_line(archive / "Eval" / LIST, 2, header)
    with pytest.raises(
        ValueError, match=rf"{LIST}', line 2: must be 'image_name item_id eval"
    ):
        in_shop(archive)


def test_list_cut_short_is_named(archive):
    change_line(archive / "Eval" / LIST, 17, "")
    with pytest.raises(
        ValueError, match=rf"{LIST}' has 14 rows, but its first line says 15"
    ):
        in_shop(archive)


def test_high_resolution_images_alone_are_not_taken(archive):
    os.rename(archive / "Img" / "img", archive / "Img" / "img_highres")
    with pytest.raises(FileNotFoundError, match=r"^15 of 15 .*img_highres\.zip and"):
        in_shop(archive)


def test_half_extracted_images_are_named(archive):
    shutil.rmtree(archive / "Img" / "img" / "MEN")
    with pytest.raises(
        FileNotFoundError, match=r"^10 of 15 .*/MEN/.*00_train\.jpg'\. Extract img\.zip"
    ):
        in_shop(archive)


def test_folder_without_it_says_where_to_get_it(tmp_path):
    with pytest.raises(
        FileNotFoundError,
        match=r"no list_eval.* or Eval/list_eval.*InShopRetrieval\.html",
    ):
        in_shop(tmp_path)


def test_counts_that_differ_are_named(archive, monkeypatch):
    module = importlib.import_module("keras_dml.data.datasets.in_shop")
    counts = {**module.OFFICIAL_COUNTS, "query images": 6, "gallery classes": 4}
    use_counts(monkeypatch, "in_shop", counts)
    with pytest.raises(
        ValueError,
        match=r"; gallery classes: 3 found, 4 expected; query images: 5 found, 6 exp"
        r"|; query images: 5 found, 6 expected; gallery classes: 3 found, 4 expected",
    ):
        in_shop(archive)


def test_official_size_passes_and_a_query_less_does_not(tmp_path, monkeypatch):
    # Making and looking for 52,712 files would make the test slow; other tests do.
    module = importlib.import_module("keras_dml.data.datasets.in_shop")
    monkeypatch.setattr(module, "check_files_exist", lambda *_: None)

    def rows(status, images, first, last):
        items = np.sort(np.arange(images) % (last - first + 1)) + first
        return [
            f"img/MEN/{item}/{row}_{status}.jpg id_{item:08} {status}"
            for row, item in enumerate(items)
        ]

    train = rows("train", 25_882, 1, 3_997)
    gallery = rows("gallery", 12_612, 3_998, 7_982)
    for queries in (14_218, 14_217):
        all_rows = train + rows("query", queries, 3_998, 7_982) + gallery
        (tmp_path / LIST).write_text(
            f"{len(all_rows)}\nimage_name item_id evaluation_status\n"
            + "\n".join(all_rows)
        )
        if queries == 14_218:
            train_set, test_set = in_shop(tmp_path)
        else:
            with pytest.raises(
                ValueError, match="; query images: 14,217 found, 14,218 expected"
            ):
                in_shop(tmp_path)
    assert (len(train_set.class_names), len(train_set)) == (3_997, 25_882)
    assert len(test_set.class_names) == 3_985
    assert test_set.is_query.sum() == 14_218
    assert (~test_set.is_query).sum() == 12_612
