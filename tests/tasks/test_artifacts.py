"""Pages of a plate, as text; no server is needed for this."""

import pytest

from phenopipe.ingest import PlateSummary
from phenopipe.ingest.verdicts import Verdict
from phenopipe.lake import Lake, heatmaps, plate_image
from phenopipe.plates import PlateKey
from tasks.artifacts import describe_plate, link, plain_row, show_plate

KEY = PlateKey("Batch1", "Plate1")


def summarise(**changed):
    told = {
        "verdict": Verdict("warn", "failed_fields,empty"),
        "fields": 96,
        "failed": 6,
        "missing": 2,
        "channels": [{"channel": "DNA", "mean": 412.3456, "cells": None}],
        "wells": {Verdict("fail", "empty"): ["A01", "B03"]},
    }
    return PlateSummary(**told | changed)


def test_a_page_says_what_is_wrong_where_and_where_it_lies(tmp_path):
    page = describe_plate(Lake(tmp_path), KEY, summarise())
    assert "# Batch1/Plate1: warn\n\nFailed fields, empty." in page
    assert "6 of 96 fields failed; 2 files missing." in page
    assert "| fail | empty | 2 | A01, B03 |" in page
    assert "| DNA | 412.3 |  |" in page
    assert "images/Batch1/Plate1.zarr" in page


def test_names_from_elsewhere_stay_text(tmp_path):
    bad = "<img src=x onerror=alert(1)>|[a](javascript:b)\n# c"
    page = describe_plate(Lake(tmp_path), KEY, summarise(channels=[{"channel": bad}]))
    (row,) = [line for line in page.splitlines() if "onerror" in line]
    assert row.replace(r"\|", "").count("|") == 2, "it is one cell of one line"
    for sign in "<>[]()#":
        assert row.count(sign) == row.count(f"\\{sign}")


@pytest.mark.parametrize(
    "bad",
    [
        "[a](javascript:alert(1))",
        "![](http://elsewhere/seen.png)",
        "[x](http://a) [b](javascript:c)",
        "[[a](http://b)](javascript:c)",
        "<img src=x onerror=alert(1)>",
        "[a]\n(javascript:b)",
    ],
)
def test_a_cell_of_a_table_makes_no_link_and_no_html(bad):
    (told,) = plain_row({"what": bad}).values()
    assert "](" not in told
    assert "<" not in told


def test_a_table_keeps_numbers_and_its_links_to_pages():
    row = {"n": 3, "p": None, "page": "[Batch1/Plate1 and 1 more](http://lab:4200/runs/flow-run/1)"}
    assert plain_row(row) == row


def test_a_bucket_is_linked_and_a_folder_is_named(tmp_path, bucket_root):
    assert link(Lake(bucket_root), heatmaps(KEY), "Heatmap").startswith("[Heatmap](<https://")
    assert link(Lake(tmp_path), plate_image(KEY), "Image").startswith("Image: /")


def test_without_a_run_nothing_is_told(tmp_path):
    # No server is started for it, and a plate that is not there is not looked for.
    show_plate(Lake(tmp_path), KEY, folder=tmp_path)
